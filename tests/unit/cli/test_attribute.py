"""`constitution attribute` on a store of known votes."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from unit.editing.attribute.test_attribution import MATRIX, rows

from constitute.cli.constitution.attribute import attribute
from constitute.errors import UsageError
from constitute.progress import Silent
from constitute.store import Store
from constitute.types import Outcome


class Notes(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


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
    assert "x, y prefer the same answer on a share of 1.00 (0.44 to 1.00, n = 3)" in done.stdout
    assert "2 of 3 principles (x, z) keep 2 of 2 decisions" in done.stdout
    assert page.stat().st_size > 2000 and len(matrix.read_text().splitlines()) == 5
    told = CliRunner().invoke(attribute, [str(run), "--json"])
    result = json.loads(told.stdout.splitlines()[-1])
    assert result["subset"]["members"] == ["x", "z"] and result["undecided"] == 2


def test_a_run_without_labels_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(attribute, [str(stored(tmp_path / "run", labelled=False))])
    assert isinstance(done.exception, UsageError) and "has no labelled pairs" in str(done.exception)


def test_fill_asks_what_is_missing_and_everything_under_another_constitution(tmp_path: Path) -> None:
    """Labelled with one principle drawn of three: a fill asks the two others, and nothing a second time."""
    from constitute.config import EngineConfig, load_config
    from constitute.constitution.write import to_yaml
    from constitute.editing.attribute.run import attribute_run
    from constitute.engines.fake import FakeEngine
    from constitute.pipeline import run_stages
    from constitute.types import Constitution, Message, Principle, Prompt

    def written(*texts: str) -> str:
        made = Constitution(
            name="c",
            principles=tuple(
                Principle(id=f"p{i}", text=t, critique="c", revise="r", compare=f"which {t}")
                for i, t in enumerate(texts)
            ),
        )
        file = tmp_path / f"{'-'.join(texts)}.yaml"
        file.write_text(to_yaml(made))
        return str(file)

    prompts = [Prompt(id=f"q{i}", messages=(Message(role="user", content=f"{i}?"),)) for i in range(10)]
    wanted = {"model": "m", "run": tmp_path / "run", "generate.n": 2, "label.min_mass": 0.0, "limit": 10}
    config = load_config(overrides=wanted | {"constitution": written("one", "two", "three")})
    engine = FakeEngine("m", EngineConfig())
    run_stages(config, ["generate"], prompts=prompts, engine=engine)
    run_stages(config, ["label"], engine=engine)
    sparse = attribute_run(config)
    assert [i.missing for i in sparse.figures.influences] != [0, 0, 0]
    assert sum(i.missing for i in sparse.figures.influences) == 10 * 2
    filled = attribute_run(config, fill=True, engine=engine)
    assert (filled.asked, filled.reused) == (10 * 2 * 2, 10 * 2)
    assert [i.missing for i in filled.figures.influences] == [0, 0, 0]
    again = attribute_run(config, fill=True, engine=engine)
    assert (again.asked, again.figures) == (0, filled.figures)
    assert len(attribute_run(config, limit=4).figures.columns) == 4
    notes = Notes()
    other = config.model_copy(update={"constitution": written("one", "TWO", "three")})
    changed = attribute_run(other, fill=True, engine=engine, progress=notes)
    assert (changed.asked, changed.reused) == (10 * 2, 10 * 4)
    assert notes.told[0].startswith("the constitution is not the one") and "labelled anew" in notes.told[0]
