"""`constitution attribute` on a store of known votes."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from test_attribution import MATRIX, rows

from constitute.cli.constitution_attribute import attribute
from constitute.errors import UsageError
from constitute.store import Store
from constitute.types import Outcome


def stored(folder: Path, labelled: bool = True) -> Path:
    with Store.open(folder) as store:
        for at, row in enumerate(rows(MATRIX) if labelled else []):
            data = row.model_dump(mode="json")
            store.put_outcome("label", Outcome(row_id=row.id, position=at, status="ok", data=data))
    return folder


def test_the_table_the_page_and_the_matrix_are_written(tmp_path: Path) -> None:
    run, page, matrix = stored(tmp_path / "run"), tmp_path / "page.html", tmp_path / "votes.csv"
    done = CliRunner().invoke(attribute, [str(run), "--out", str(page), "--csv", str(matrix)])
    assert done.exception is None or done.exit_code == 0, done.output
    assert "x, y say the same on 100.0 % of pairs (n = 4)" in done.stdout
    assert "2 of 3 principles (x, z) keep 3 of 3 decisions" in done.stdout
    assert page.stat().st_size > 2000 and len(matrix.read_text().splitlines()) == 5
    told = CliRunner().invoke(attribute, [str(run), "--json"])
    result = json.loads(told.stdout.splitlines()[-1])
    assert result["subset"]["members"] == ["x", "z"] and result["even"] == 1


def test_a_run_without_labels_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(attribute, [str(stored(tmp_path / "run", labelled=False))])
    assert isinstance(done.exception, UsageError) and "has no labelled pairs" in str(done.exception)
