"""`constitute rows`: which rows it lists, what it says of each, and that it lists many in little memory."""

from __future__ import annotations

import csv
import json
import sys
import time
import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.data.query import RowFilter, find_rows
from constitute.errors import UsageError
from constitute.store import Store
from constitute.types import Comparison, LabelledPair, Outcome, PreferenceLabel, PrincipleVote, Prompt

CUT = "response was cut at 4 tokens"


def vote(p_ab: float, p_ba: float, name: str = "kind") -> PrincipleVote:
    return PrincipleVote(principle_id=name, weight=1, p_ab=p_ab, p_ba=p_ba, mass_ab=0.9, mass_ba=0.8)


def labelled(name: str, p_a: float, *votes: PrincipleVote) -> dict:  # type: ignore[type-arg]
    prompt = Prompt.model_validate({"id": "p", "messages": [{"role": "user", "content": "Q?"}]})
    pair = Comparison(id=name, prompt=prompt, a="yes", b="no")
    row = LabelledPair(id=name, comparison=pair, label=PreferenceLabel(p_a=p_a, votes=votes))
    return row.model_dump(mode="json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two generated rows, one of them cut; four pairs; one scored eval item."""
    with Store.open(tmp_path / "run") as store:
        store.put_outcome("generate", Outcome(row_id="a/0", position=0, status="ok", data={"response": "R"}))
        for text in ("older", "the end\x1b[31m is \u202ehere"):
            store.add_attempt("k", "generate", "b/0", CUT, {"text": text, "reasoning": ""})
        store.add_attempt("k", "generate", "b/0", "500 Oops", {"text": "of another reason"})
        store.put_outcome("generate", Outcome(row_id="b/0", position=1, status="failed", reason=CUT))
        store.put_outcome(
            "label",
            Outcome(
                row_id="l0",
                position=0,
                status="abstain",
                reason="P(A) + P(B) = 0.02 is below 0.1 under kind, order AB",
            ),
        )
        for at, (p_a, *votes) in enumerate(
            [(0.9, vote(0.95, 0.85)), (0.5625, vote(0.6, 0.5)), (0.375, vote(0.8, 0.1, "brief"))], 1
        ):
            data = labelled(f"l{at}", p_a, *votes)
            store.put_outcome("label", Outcome(row_id=f"l{at}", position=at, status="ok", data=data))
        store.put_outcome(
            "evals-run/wit/base",
            Outcome(
                row_id="00001", position=0, status="ok", data={"id": "00001", "p_matching": 0.75, "mass": 0.5}
            ),
        )
    return tmp_path / "run"


def ids(folder: Path, **wanted: object) -> list[str]:
    with Store.open(folder, readonly=True) as store:
        return [row.id for row in find_rows(store, RowFilter.model_validate(wanted))]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["a/0", "b/0", "l0", "l1", "l2", "l3", "00001"]),
        ({"stage": "evals-run"}, ["00001"]),
        ({"statuses": ("failed",)}, ["b/0"]),
        ({"statuses": ("failed", "abstain")}, ["b/0", "l0"]),
        ({"reason": "CUT AT"}, ["b/0"]),
        ({"principle": "kind"}, ["l0", "l1", "l2"]),
        ({"principle": "order"}, []),
        # Margins: |2 x 0.9 - 1| = 0.8, 0.125, 0.25, and 0.5 of the eval item.
        ({"min_margin": 0.5}, ["l1", "00001"]),
        ({"max_margin": 0.4, "stage": "label"}, ["l2", "l3"]),
        # 0.6 against 0.5 and 0.8 against 0.1 prefer different answers.
        ({"flipped": True}, ["l2", "l3"]),
        ({"worst": 3}, ["l2", "l3", "00001"]),
        ({"worst": 9, "stage": "label", "min_margin": 0.2}, ["l3", "l1"]),
    ],
)
def test_which_rows_match(folder: Path, wanted: dict[str, object], expected: list[str]) -> None:
    found = ids(folder, **wanted)
    assert found == expected


def test_a_stage_that_is_not_there_and_one_without_figures(folder: Path) -> None:
    with pytest.raises(UsageError, match="no rows of the stage 'labels'; did you mean 'label'"):
        ids(folder, stage="labels")
    with pytest.raises(UsageError, match=r"no row of generate in .* has a figure to rank by"):
        ids(folder, stage="generate", worst=3)


def call(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    monkeypatch.setattr(sys, "argv", ["constitute", *line.split()])
    return run_and_exit(cli)


def test_the_terminal_shows_what_was_cut_and_obeys_nothing_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, f"rows --run {folder} --failed") == 0
    out, err = capsys.readouterr()
    assert out == f"generate  b/0  failed  {CUT}\n    the end is here\n"
    assert err == f"1 row of {folder}\n"
    assert call(monkeypatch, f"rows --run {folder} --worst 1 --stage label") == 0
    assert capsys.readouterr().out == "label  l2  ok  P 0.562, margin 0.125, flips 1 of 1, mass 0.800\n"


def test_files_hold_everything(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, f"rows --run {folder} --csv {tmp_path}/r.csv") == 0
    assert call(monkeypatch, f"rows --run {folder} --parquet {tmp_path}/r.parquet") == 0
    capsys.readouterr()
    assert call(monkeypatch, f"rows --run {folder} --json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    table = list(csv.DictReader((tmp_path / "r.csv").open(newline="", encoding="utf-8")))
    columns = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["id"] for row in lines] == [row["id"] for row in table] == [row["id"] for row in columns]
    assert lines[1]["cut"] == table[1]["cut"] == columns[1]["cut"] == "the end\x1b[31m is \u202ehere"
    assert (table[3]["p_a"], columns[3]["p_a"], columns[3]["flips"]) == ("0.9", 0.9, 0)
    assert json.loads(table[3]["data"]) == lines[3]["data"]
    assert call(monkeypatch, f"rows --run {folder} --json --csv x.csv") == 2


def test_fifty_thousand_rows_take_seconds_and_no_memory(tmp_path: Path) -> None:
    text = "word " * 100
    with Store.open(tmp_path / "run") as store:
        store._connection.execute("BEGIN")
        for at in range(50_000):
            store.add_attempt("k", "generate", f"p{at}/0", CUT, {"text": text})
            store.put_outcome(
                "generate", Outcome(row_id=f"p{at}/0", position=at, status="failed", reason=CUT)
            )
        store._connection.execute("COMMIT")
    start = time.process_time()
    with Store.open(tmp_path / "run", readonly=True) as store:
        assert sum(row.cut == text for row in find_rows(store, RowFilter(statuses=("failed",)))) == 50_000
    assert time.process_time() - start < 15
    with Store.open(tmp_path / "run", readonly=True) as store:
        tracemalloc.start()
        rows = find_rows(store, RowFilter(statuses=("failed",)))
        for _ in range(3_000):
            next(rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # Two pages of 1,000 rows, not 25 MB of cut texts.
    assert peak < 8e6
