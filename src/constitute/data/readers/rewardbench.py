"""RewardBench 1 and 2 (allenai/reward-bench): prompts with answers that are right and wrong."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.pairs import answers
from constitute.data.readers.base import (
    Answer,
    Family,
    Item,
    Unusable,
    Value,
    alone,
    asked,
    judged,
    text_of,
    texts_of,
    turn,
)


def _first(row: Value, config: ReadConfig) -> Item:
    prompt, (right, wrong) = answers(row, "chosen", "rejected")
    return Item(
        [turn(each.role, each.content) for each in prompt],
        judged(Answer(right), Answer(wrong), -1.0),
        extra=_place(row),
    )


def _second(row: Value, config: ReadConfig) -> Item:
    """Right answers are not compared with each other, nor wrong ones: they have one score."""
    right, wrong = texts_of(row, "chosen"), texts_of(row, "rejected")
    if not (right and wrong):
        raise Unusable("chosen and rejected must hold an answer each")
    answers = [*(Answer(text, 1.0) for text in right), *(Answer(text, 0.0) for text in wrong)]
    return Item(asked(text_of(row, "prompt")), tuple(answers), extra=_place(row))


def _place(row: Value) -> Value:
    """The part of the set and the id in it. Ids count from 0 within parts, so they name no row."""
    return {
        key: str(row[name])
        for key, name in (("subset", "subset"), ("subset_id", "id"))
        if row.get(name) is not None
    }


FIRST = Family(
    "RewardBench: prompts with a right and a wrong answer",
    ("prompt", "chosen", "rejected", "subset"),
    alone(_first),
    fits=lambda row: row.get("chosen_prob") is None,
)
SECOND = Family(
    "RewardBench 2: prompts with right and wrong answers",
    ("prompt", "chosen", "rejected"),
    alone(_second),
    fits=lambda row: isinstance(row["prompt"], str) and _texts(row["chosen"]) and _texts(row["rejected"]),
)


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
