"""Pairs to be labelled, from the forms people have them in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from places import SHARED

from constitute.data.pairs import read_pairs
from constitute.errors import DataError
from constitute.types import Message

HH = SHARED / "hh-rlhf" / "harmless-base-test-even.jsonl.gz"
ASK = [{"role": "user", "content": "Q"}]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def read(tmp_path: Path, *rows, skip_bad: bool = False):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_pairs(path, skip_bad=skip_bad)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "a": "one", "b": "two"},
        {"prompt": "Q", "chosen": "one", "rejected": "two"},
        {"prompt": ASK, "chosen": said("one"), "rejected": said("two"), "chosen_prob": 0.9},
        {"prompt": "Q", "chosen": [*ASK, *said("one")], "rejected": [*ASK, *said("two")]},
        {"chosen": [*ASK, *said("one")], "rejected": [*ASK, *said("two")]},
        {"chosen": "\n\nHuman: Q\n\nAssistant: one", "rejected": "\n\nHuman: Q\n\nAssistant: two"},
        {"prompt": "\n\nHuman: Q\n\nAssistant:", "a": "one", "b": "two"},
    ],
)
def test_forms(tmp_path, row):
    (pair,), bad = read(tmp_path, row)
    assert pair.prompt.messages == (Message(role="user", content="Q"),)
    assert (pair.a, pair.b, bad) == ("one", "two", [])
    assert (pair.a_source, pair.b_source) == (("a", "b") if "a" in row else ("chosen", "rejected"))


def test_ids(tmp_path):
    row = {"prompt": "Q", "a": "one", "b": "two"}
    pairs, _ = read(tmp_path, row, row, {**row, "b": "three"}, {**row, "id": 4})
    assert pairs[1].id == f"{pairs[0].id}-2" and pairs[3].id == "4"
    assert len({p.id for p in pairs}) == 4 and len({p.prompt.id for p in pairs}) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Q", "a": "one"}, "two answers are needed"),
        ({"a": "one", "b": "two"}, "a is plain text and there is no prompt"),
        ({"prompt": "Q", "a": 1, "b": "two"}, "a must be text or a list"),
        ({"prompt": "Q", "a": ASK, "b": "two"}, "a must end with a turn of the assistant"),
        ({"prompt": "Q", "a": [], "b": "two"}, "a must end with a turn of the assistant"),
        ({"prompt": "", "a": "one", "b": "two"}, "empty turn of the user"),
        ({"prompt": "P", "a": [*ASK, *said("one")], "b": "two"}, "a repeats another conversation"),
        (
            {"chosen": "\n\nHuman: Q\n\nAssistant: one", "rejected": "\n\nHuman: R\n\nAssistant: two"},
            "chosen and rejected answer different conversations",
        ),
        ({"prompt": "\n\nHuman: Q\n\nAssistant: said", "a": "one", "b": "two"}, "prompt ends with an answer"),
    ],
)
def test_bad_rows(tmp_path, row, reason):
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: .*" + reason):
        read(tmp_path, row)
    good = {"prompt": "Q", "a": "one", "b": "two"}
    pairs, bad = read(tmp_path, row, good, skip_bad=True)
    assert (len(pairs), len(bad)) == (1, 1)


@pytest.mark.skipif(not HH.is_file(), reason="hh-rlhf is not at ../shared/data/hh-rlhf")
def test_all_of_hh_rlhf():
    pairs, bad = read_pairs(HH)
    assert (len(pairs), len(bad)) == (1156, 0)
    assert pairs[0].a.startswith("Sounds like alcohol") and pairs[0].b.startswith("I’m glad that you’re")
