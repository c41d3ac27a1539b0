"""The note of a stage that stopped early."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitute.store import Store
from constitute.store.unfinished import UNFINISHED, begin, end, unfinished, unfinished_stage
from constitute.types import Outcome


def rows(store: Store, stage: str, n: int) -> None:
    for at in range(n):
        store.put_outcome(stage, Outcome(row_id=f"r{at}", position=at, status="ok", data={}))


def test_a_stage_is_unfinished_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        rows(store, "label", 8)
        assert unfinished(store) == []
        begin(store, "generate", 4)
        begin(store, "label", 16)
        assert [(each.stage, each.done, each.rows) for each in unfinished(store)] == [
            ("generate", 0, 4),
            ("label", 8, 16),
        ]
        end(store, "label")
        assert unfinished_stage(store, "label") is None


@pytest.mark.parametrize(
    ("noted", "sentence"),
    [
        ({"rows": 16}, "label: 8 of 16 rows, unfinished: run `constitute label` again"),
        ({"rows": None}, "label, unfinished: run `constitute label` again"),
        (True, "label, unfinished: run `constitute label` again"),
        # More rows ended in an earlier run than this one was given.
        ({"rows": 8}, "label, unfinished: run `constitute label` again"),
    ],
)
def test_the_sentence_tells_how_far_where_that_is_known(tmp_path: Path, noted: object, sentence: str) -> None:
    with Store.open(tmp_path) as store:
        rows(store, "label", 8)
        store.put_meta(UNFINISHED + "label", noted)
        found = unfinished_stage(store, "label")
    assert found is not None and found.sentence == sentence
