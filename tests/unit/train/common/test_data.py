"""The conversations that trainers imitate, and the hash that says what they read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from places import SHARED
from tiny_models import chatml_tokenizer

from constitute.engines.render import Renderer
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
    assert [one.turns for one in read_conversations(write(tmp_path, row), "last")] == [
        tuple(map(Message.model_validate, TURNS))
    ]


def test_openais_own_form_is_read_and_a_call_of_a_tool_is_named(tmp_path):
    """A developer turn is a system turn; fields that say nothing are none."""
    answer = {**SAID, "refusal": None, "tool_calls": None, "annotations": []}
    told = {"role": "developer", "content": "Be brief."}
    (found,) = read_conversations(write(tmp_path, {"messages": [told, USER, answer], "tools": []}), "last")
    system = Message(role="system", content="Be brief.")
    assert found.turns == (system, *map(Message.model_validate, TURNS))
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "7"}
    with pytest.raises(
        DataError, match=r"sft\.jsonl:2: messages\[1\] calls a tool .*mend or remove the line"
    ):
        read_conversations(
            write(tmp_path, {"messages": TURNS}, {"messages": [USER, call, result, SAID]}), "last"
        )


def weighted(*weights):
    """A conversation of as many answers, each with a weight; None leaves it out."""
    rows = []
    for weight in weights:
        rows += [USER, SAID if weight is None else {**SAID, "weight": weight}]
    return rows


@pytest.mark.parametrize(
    ("row", "last", "all_of_them"),
    [
        ({"messages": weighted(None, None, None)}, (5,), (1, 3, 5)),
        ({"messages": weighted(0, None, None)}, (5,), (3, 5)),
        ({"messages": weighted(0, 1, 0)}, (3,), (3,)),
        ({"messages": weighted(1, None, None)}, (1, 5), (1, 3, 5)),
        ({"messages": weighted(1.0, 0.0)}, (1,), (1,)),
        ({"prompt": weighted(1, None)[:-1], "completion": [SAID]}, (1, 3), (1, 3)),
        ({"prompt": weighted(0, None)[:-1], "completion": "yes"}, (3,), (3,)),
        ({"prompt": weighted(0, 1)[:-1], "completion": weighted(0, 1)}, (3,), (3,)),
        ({"text": "\n\nHuman: Q\n\nAssistant: a\n\nHuman: R\n\nAssistant: b"}, (3,), (1, 3)),
    ],
)
def test_which_answers_are_trained_on(tmp_path, row, last, all_of_them):
    path = write(tmp_path, row)
    (found,), (whole,) = read_conversations(path, "last"), read_conversations(path, "all")
    assert (found.trained, whole.trained) == (last, all_of_them)


def test_several_answers_are_one_row_or_one_each(tmp_path):
    renderer = Renderer(chatml_tokenizer(), "chatml")

    def rows(messages, loss):
        (found,) = read_conversations(write(tmp_path, {"messages": messages}), loss)
        return found.rows(renderer)

    turns = [
        {**turn, "content": f"{turn['content']} {at}"} for at, turn in enumerate(weighted(None, None, None))
    ]
    ((ids, labels),) = rows(turns, "all")
    (last,) = rows(turns, "last")
    # The same tokens, of which fewer are labelled.
    assert last[0] == ids and all(label in (-100, same) for label, same in zip(last[1], labels, strict=True))
    assert renderer.tokenizer.decode([token for token in last[1] if token != -100]) == "yes 5<|im_end|>"
    said = renderer.tokenizer.decode([token for token in labels if token != -100])
    assert said == "yes 1<|im_end|>yes 3<|im_end|>yes 5<|im_end|>"
    turns[1]["weight"] = 0
    ((ids, labels),) = rows(turns, "all")
    said = renderer.tokenizer.decode([token for token in labels if token != -100])
    assert said == "yes 3<|im_end|>yes 5<|im_end|>"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": weighted(0.5)}, r"messages\[1\] has the weight 0.5; known are 0 and 1"),
        ({"messages": weighted(True)}, r"messages\[1\] has the weight True; known are 0 and 1"),
        ({"messages": weighted("0")}, r"messages\[1\] has the weight '0'; known are 0 and 1"),
        ({"messages": [{**USER, "weight": 1}, SAID]}, r"messages\[0\] has the weight 1, and only turns of"),
        ({"messages": weighted(0)}, "messages holds no turn of the assistant to train on"),
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
    with pytest.raises(DataError, match=rf"sft\.jsonl:2: .*{reason}.*; mend or remove the line"):
        read_conversations(write(tmp_path, {"messages": TURNS}, row), "last")


def test_the_hash_is_that_of_the_bytes(tmp_path):
    one, two = write(tmp_path, {"a": 1}), write(tmp_path, {"a": 2}, name="two.jsonl")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, two)]
    assert [data_hash(one), data_hash([two])] == digests
    assert data_hash([one, two]) == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert data_hash("owner/name") == hashlib.sha256(b"owner/name").hexdigest()


@pytest.mark.skipif(not HH.is_file(), reason="hh-rlhf is not at ../shared/data/hh-rlhf")
def test_all_of_hh_rlhf():
    found = [one.turns for one in read_conversations(HH, "last")]
    assert len(found) == 1156 and {turns[-1].role for turns in found} == {"assistant"}
    assert found[0][-1].content.startswith("Sounds like alcohol")
