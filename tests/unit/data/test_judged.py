"""Single answers and pairs as judged answers, and the rows that hold none."""

import json

import pytest

from constitute.data.judged import read_judged
from constitute.errors import DataError


def read(tmp_path, *rows, threshold=0.0):
    path = tmp_path / "judged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        (each.prompt[0].content, each.answer, each.desirable_prob, each.weight)
        for each in read_judged(path, print, threshold)
    ]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"completion": "A", "label": True}, ("A", 1.0, 1.0)),
        ({"response": "A", "label": False, "weight": 2}, ("A", 0.0, 2.0)),
        ({"answer": "A", "label": 0.3}, ("A", 0.3, 1.0)),
        ({"completion": "A", "label": "false", "score": 9}, ("A", 0.0, 1.0)),
        ({"completion": "A", "score": 5.5}, ("A", 1.0, 1.0)),
        ({"completion": "A", "score": 5}, ("A", 0.5, 1.0)),
        ({"completion": "A", "score": -2}, ("A", 0.0, 1.0)),
    ],
)
def test_single_answers(tmp_path, row, found):
    assert read(tmp_path, {"prompt": "Q", **row}, threshold=5.0) == [("Q", *found)]


def test_a_pair_is_two_answers_as_sure_as_its_label(tmp_path):
    pair = {"prompt": "Q", "chosen": "A", "rejected": "B", "chosen_prob": 0.75, "weight": 3}
    assert read(tmp_path, pair) == [("Q", "A", 0.75, 3.0), ("Q", "B", 0.25, 3.0)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"label": True}, "an answer is needed, as completion, response, answer, or chosen and rejected"),
        ({"completion": "A"}, "a label or a score is needed beside the answer; found 'prompt', 'completion'"),
        ({"completion": "A", "label": 1.5}, "label must be true, false or a number from 0 to 1, not 1.5"),
        ({"completion": "A", "label": "good"}, "label must be true, false or a number from 0 to 1"),
        ({"completion": "A", "score": "high"}, "score must be a finite number, not 'high'"),
    ],
)
def test_rows_without_a_judgement_are_told(tmp_path, row, reason):
    with pytest.raises(DataError) as told:
        read(tmp_path, {"prompt": "Q", **row})
    assert f"judged.jsonl:1: {reason}" in str(told.value)
