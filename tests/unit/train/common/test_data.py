"""The conversations that trainers imitate, and the hash that says what they read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from places import SHARED

from constitute.errors import DataError
from constitute.train.common.data import data_hash, read_conversations
from constitute.types import Message

HH = SHARED / "hh-rlhf" / "harmless-base-test-even.jsonl.gz"
USER, SAID = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "yes"}
TURNS = [USER, SAID]


def write(tmp_path: Path, *rows, name: str = "sft.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS},
        {"messages": "\n\nHuman: Q\n\nAssistant: yes"},
        {"messages": TURNS, "prompt": "another", "completion": "no", "chosen": "no"},
        {"messages": [], "prompt": "Q", "completion": "yes"},
        {"prompt": [USER], "completion": [SAID]},
        {"prompt": "\n\nHuman: Q\n\nAssistant:", "completion": " yes"},
        {"text": "\n\nHuman: Q\n\nAssistant: yes"},
        {"prompt": "Q", "chosen": "yes", "rejected": "no", "chosen_prob": 0.5},
    ],
)
def test_forms(tmp_path, row):
    assert read_conversations(write(tmp_path, row)) == [tuple(map(Message.model_validate, TURNS))]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Q"}, "none of the keys messages, completion, text, chosen; found 'prompt'"),
        ({"completion": "yes"}, "completion is plain text and there is no prompt"),
        ({"text": "words"}, "text is plain text and there is no prompt"),
        ({"messages": [USER]}, "messages must end with a turn of the assistant"),
        ({"messages": [SAID]}, "messages before its answer holds no turn of the user"),
        ({"prompt": "Q", "completion": "\ud800"}, "half a surrogate pair"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "must have text as its content"),
    ],
)
def test_bad_rows_are_named_by_line(tmp_path, row, reason):
    with pytest.raises(DataError, match=rf"sft\.jsonl:2: .*{reason}.*; mend or remove the line$"):
        read_conversations(write(tmp_path, {"messages": TURNS}, row))


def test_the_hash_is_that_of_the_bytes(tmp_path):
    one, two = write(tmp_path, {"a": 1}), write(tmp_path, {"a": 2}, name="two.jsonl")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, two)]
    assert [data_hash(one), data_hash([two])] == digests
    assert data_hash([one, two]) == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert data_hash("owner/name") == hashlib.sha256(b"owner/name").hexdigest()


@pytest.mark.skipif(not HH.is_file(), reason="hh-rlhf is not at ../shared/data/hh-rlhf")
def test_all_of_hh_rlhf():
    found = read_conversations(HH)
    assert len(found) == 1156 and {turns[-1].role for turns in found} == {"assistant"}
    assert found[0][-1].content.startswith("Sounds like alcohol")
