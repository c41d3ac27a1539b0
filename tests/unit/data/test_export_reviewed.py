"""`export --reviewed`: people's choices as labels, as the only rows, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from report_runs import write_rows

from constitute.config import ExportConfig
from constitute.data.export import export_run
from constitute.data.reviews import Review, add_reviews
from constitute.store import Store


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "run") as store:
        write_rows(store, 10, str)
    return tmp_path / "run"


def exported(run: Path, reviewed: str, **more) -> dict[str, tuple[float, str, str | None]]:
    [part] = export_run(run, ExportConfig(reviewed=reviewed, **more), kinds=("preferences",))
    rows = map(json.loads, part.path.read_text().splitlines())
    return {
        row["id"]: (row["chosen_prob"], row["chosen"][0]["content"], row.get("judged_by")) for row in rows
    }


def test_people_replace_the_judge_where_they_chose(run: Path):
    before = exported(run, "none")
    ids = list(before)
    # The revision (b) is what the judge prefers; people prefer the response in the first, two of three in the
    # second, and are undecided about the third.
    for annotator, choices in {"ada": "aaa", "bob": "aab", "eve": "ab"}.items():
        add_reviews(
            run,
            [Review(item=i, annotator=annotator, choice=c) for i, c in zip(ids, choices, strict=False)],
        )
    found = exported(run, "override", min_margin=0.99)
    assert {name: row[2] for name, row in found.items()} == {ids[0]: "people", ids[1]: "people"}
    assert found[ids[0]][:2] == (1.0, "a b c d")
    assert found[ids[1]][:2] == (pytest.approx(2 / 3), "a b c d")
    assert before[ids[0]][1:] == ("a b d e", None)
    every = exported(run, "override")
    assert {name for name, row in every.items() if row[2] == "judge"} == set(ids[3:])
    assert set(exported(run, "only")) == set(ids[:2])
    removed = (run / "export" / "removed.jsonl").read_text()
    assert "people are undecided about it (export.reviewed)" in removed
    assert "nobody reviewed it (export.reviewed=only)" in removed


def test_parquet_says_who_judged(run: Path):
    name = next(iter(exported(run, "none")))
    add_reviews(run, [Review(item=name, annotator="ada", choice="b")])
    [part] = export_run(run, ExportConfig(reviewed="override", format="parquet"), kinds=("preferences",))
    rows = pq.read_table(part.path).to_pylist()
    assert [row["judged_by"] for row in rows if row["id"] == name] == ["people"]
    [plain] = export_run(run, ExportConfig(format="parquet"), kinds=("preferences",))
    assert "judged_by" not in pq.read_table(plain.path).column_names


def test_the_label_card_is_held_against_reviews(run: Path):
    """The judge prefers the revision, b, throughout; of three reviewed pairs people take it in two."""
    before = exported(run, "none")
    ids = list(before)
    for name, choice in zip(ids, "bba", strict=False):
        add_reviews(run, [Review(item=name, annotator="ada", choice=choice)])
    exported(run, "none")
    noted = json.loads((run / "export" / "labels.json").read_text())["label_card"]
    accuracy = noted["agreement"]["accuracy"]
    assert (accuracy["value"], accuracy["n"]) == (pytest.approx(2 / 3), 3)
    # The label gives b `chosen_prob`; people give it 1, 1 and 0.
    first, second, third = (before[name][0] for name in ids[:3])
    brier = ((1 - first) ** 2 + (1 - second) ** 2 + third**2) / 3
    assert noted["calibration"]["brier"]["value"] == pytest.approx(brier)
