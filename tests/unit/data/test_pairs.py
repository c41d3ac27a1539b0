"""Pairs to be labelled and labelled pairs to train on, from the forms people have them in."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from places import SHARED

from constitute.data.pairs import PreferencePair, read_pairs, read_preferences
from constitute.errors import DataError
from constitute.pipeline.drive import input_hash
from constitute.types import Message

HH = SHARED / "hh-rlhf" / "harmless-base-test-even.jsonl.gz"
ASK = [{"role": "user", "content": "Q"}]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def write(tmp_path: Path, *rows) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(tmp_path: Path, *rows, skip_bad: bool = False):
    return read_pairs(write(tmp_path, *rows), skip_bad=skip_bad)


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


def test_a_row_says_where_its_answers_come_from(tmp_path):
    row = {"prompt": "Q", "chosen": "one", "rejected": "two"}
    named = {**row, "chosen_source": "gpt-x", "rejected_source": "response 1"}
    pairs, _ = read(tmp_path, named, {**row, "chosen_source": "", "rejected_source": 4})
    assert [(pair.a_source, pair.b_source) for pair in pairs] == [
        ("chosen: gpt-x", "rejected: response 1"),
        ("chosen", "rejected"),
    ]
    (pair,), _ = read(tmp_path, {"prompt": "Q", "a": "1", "b": "2", "a_source": "x", "b_source": "y"})
    assert (pair.a_source, pair.b_source) == ("a: x", "b: y")


def test_the_writers_of_answers(tmp_path):
    """They are named by the row, shown to nobody and part of no row's identity; a file may name none."""
    row = {"prompt": "Q", "chosen": "one", "rejected": "two"}
    named, bare = read(tmp_path, {**row, "chosen_model": "gpt-4", "rejected_model": "pocket"}, row)[0]
    assert (named.a_model, named.b_model) == ("gpt-4", "pocket")
    assert (named.swap().a_model, named.swap().b_model) == ("pocket", "gpt-4")
    assert (bare.a_model, bare.b_model) == ("", "") and "a_model" not in bare.model_dump(mode="json")
    assert input_hash(named.model_copy(update={"id": bare.id})) == input_hash(bare)
    with pytest.raises(DataError, match="a_model must be the name of a model, not 4"):
        read(tmp_path, {"prompt": "Q", "a": "one", "b": "two", "a_model": 4})


def test_ultrafeedback_names_the_writers_of_pairs_to_label(tmp_path):
    answers = [
        {"model": "gpt-4", "response": "one", "annotations": {"honesty": {"Rating": "5"}}},
        {"model": "alpaca-7b", "response": "two", "annotations": {"honesty": {"Rating": "2"}}},
    ]
    (pair,), _ = read(tmp_path, {"instruction": "Q", "completions": answers})
    assert (pair.a_model, pair.b_model, pair.human) == ("gpt-4", "alpaca-7b", 1.0)


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


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


# One row in the shape of each public data set, and of each form of TRL's.
PUBLIC = {
    "HH": {
        "chosen": "\n\nHuman: Q\n\nAssistant: one",
        "rejected": "\n\nHuman: Q\n\nAssistant: two",
    },
    "rm-static": {
        "prompt": "\n\nHuman: Q\n\nAssistant:",
        "response": " one",
        "chosen": " one",
        "rejected": " two",
    },
    "UltraFeedback binarized": {
        "prompt": "Q",
        "prompt_id": "5e0d",
        "chosen": [user("Q"), *said("one")],
        "rejected": [user("Q"), *said("two")],
        "messages": [user("Q"), *said("one")],
        "score_chosen": 8.5,
        "score_rejected": 7.0,
    },
    "Skywork": {
        "chosen": [user("Q"), *said("one")],
        "rejected": [user("Q"), *said("two")],
        "source": "magpie",
    },
    "TRL explicit": {"prompt": [user("Q")], "chosen": said("one"), "rejected": said("two")},
    "TRL explicit text": {"prompt": "Q", "chosen": "one", "rejected": "two"},
    "TRL implicit": {"chosen": [user("Q"), *said("one")], "rejected": [user("Q"), *said("two")]},
    "RewardBench": {
        "prompt": "Q",
        "chosen": "one",
        "chosen_model": "m1",
        "rejected": "two",
        "rejected_model": "m2",
        "subset": "alpacaeval-easy",
        "id": 0,
    },
    "HH text with a system message": {
        "chosen": "Be brief.\n\nHuman: Q\n\nAssistant: one",
        "rejected": "Be brief.\n\nHuman: Q\n\nAssistant: two",
    },
}


@pytest.mark.parametrize("shape", PUBLIC)
@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "jsonl.gz"])
def test_public_shapes_are_pairs_to_label_to_train_on_and_to_imitate(tmp_path, shape, kind):
    from constitute.train.common.data import read_conversations

    row, path, notes = PUBLIC[shape], tmp_path / f"data.{kind}", []
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        text = json.dumps([row]) if kind == "json" else json.dumps(row) + "\n"
        data = b"\xef\xbb\xbf" + text.encode()
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    (pair,), _ = read_pairs(path)
    (labelled,) = read_preferences(path, notes.append)
    (turns,) = [one.turns for one in read_conversations(path, "last")]
    system = [{"role": "system", "content": "Be brief."}] if "system" in shape else []
    assert [turn.model_dump() for turn in turns] == [*system, user("Q"), *said("one")]
    assert labelled.prompt == pair.prompt.messages == turns[:-1]
    assert (pair.a, pair.b) == (labelled.chosen, labelled.rejected) == ("one", "two")
    assert (labelled.chosen_prob, labelled.weight, labelled.margin) == (1.0, 1.0, None)
    assert labelled.source == row.get("source")
    assert notes == [f"{path}: 1 of 1 pairs have no chosen_prob; their label is hard, P(chosen) = 1"]


GOOD = {"prompt": "ask", "chosen": "good", "rejected": "bad", "chosen_prob": 0.7}


def test_labelled_rows_bring_their_weight_margin_principles_and_source(tmp_path):
    sources = {"chosen_source": "b", "rejected_source": "a"}
    full = {"weight": 2, "margin": -0.5, "principle_ids": ["p", "q", "p"], **sources}
    notes: list[str] = []
    path = write(tmp_path, GOOD, GOOD | full, GOOD | {"principle": "p", "source": "web", "margin": None})
    prompt = (Message(role="user", content="ask"),)
    assert read_preferences(path, notes.append) == [
        PreferencePair(prompt, "good", "bad", 0.7),
        PreferencePair(prompt, "good", "bad", 0.7, 2.0, -0.5, ("p", "q"), "a / b"),
        PreferencePair(prompt, "good", "bad", 0.7, 1.0, None, ("p",), "web"),
    ]
    assert notes == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chosen": None}, "two answers are needed"),
        ({"chosen": None, "a": "x", "b": "y"}, "a and b do not say which answer is better"),
        ({"rejected": said("good")}, "chosen and rejected are equal"),
        ({"prompt": said("ask")}, "prompt ends with a turn of the assistant"),
        ({"chosen": ASK}, "chosen must end with a turn of the assistant"),
        ({"chosen_prob": 1.5}, "chosen_prob must be a number from 0 to 1, not 1.5"),
        ({"chosen_prob": -0.5}, "chosen_prob must be a number from 0 to 1, not -0.5"),
        ({"chosen_prob": True}, "chosen_prob must be a number from 0 to 1, not True"),
        ({"chosen_prob": math.nan}, "number from 0 to 1, not nan"),
        ({"weight": -1}, "weight must be a finite number from 0 up, not -1"),
        ({"weight": math.inf}, "weight must be a finite number from 0 up, not inf"),
        ({"weight": True}, "weight must be"),
        ({"margin": "much"}, "margin must be a finite number, not 'much'"),
        ({"margin": math.nan}, "margin must be a finite number, not nan"),
        ({"principle_ids": "p"}, "principle_ids must be a list of names, not 'p'"),
        ({"source": 3}, "sources of the answers must be names"),
        ({"chosen": "x \ud83d"}, "chosen holds half a surrogate pair"),
        ({"rejected": [{"role": "assistant", "content": "\udc00"}]}, "half a surrogate pair"),
        ({"source": "\ud800"}, "source holds half a surrogate pair"),
        (
            {"rejected": [{"role": "assistant", "content": [{"type": "text", "text": None}]}]},
            "must have text",
        ),
    ],
)
def test_bad_labelled_rows_are_named_by_line(tmp_path, change, reason):
    with pytest.raises(DataError, match=rf"pairs\.jsonl:2: .*{reason}.*; mend or remove the line"):
        read_preferences(write(tmp_path, GOOD, GOOD | change), print)


def test_a_file_that_is_no_utf8_is_named_by_line(tmp_path):
    path = tmp_path / "latin1.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n" + json.dumps(GOOD).encode().replace(b"good", b"g\xe9"))
    with pytest.raises(DataError, match=r"latin1\.jsonl:2: byte \d+ \(0xe9\) is not UTF-8"):
        read_preferences(path, print)


@pytest.mark.skipif(not HH.is_file(), reason="hh-rlhf is not at ../shared/data/hh-rlhf")
def test_all_of_hh_rlhf_is_training_data():
    pairs, _ = read_pairs(HH)
    notes: list[str] = []
    labelled = read_preferences(HH, notes.append)
    assert [(p.prompt, p.chosen) for p in labelled] == [(p.prompt.messages, p.a) for p in pairs]
    assert "1156 of 1156 pairs have no chosen_prob" in notes[0]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "completion": "A", "label": True},
        {"prompt": "Q", "completion": "A", "label": 0.7},
        {"prompt": "Q", "response": "A", "score": 0.5},
        {"prompt": "Q", "answer": "A", "label": False},
    ],
)
def test_answers_judged_alone_are_refused_with_what_learns_them(tmp_path, row):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"are for KTO, `train dpo --set train\.dpo\.loss=kto`"):
        read_preferences(path, print)
    path.write_text(json.dumps({"prompt": "Q", "completion": "A"}) + "\n")
    with pytest.raises(DataError) as told:
        read_preferences(path, print)
    assert "KTO" not in str(told.value)
