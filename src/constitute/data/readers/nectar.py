"""Nectar (berkeley-nest/Nectar): an HH prompt and seven answers ranked by GPT-4, 1 the best."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.readers.base import (
    Answer,
    Family,
    Item,
    Value,
    alone,
    asked,
    number_of,
    objects_of,
    text_of,
    turn,
)
from constitute.hh import is_hh, parse_hh, split_answer


def _read(row: Value, config: ReadConfig) -> Item:
    given = text_of(row, "prompt")
    turns = asked(given)
    if is_hh(given):
        turns = [turn(each.role, each.content) for each in split_answer(parse_hh(given))[0]]
    answers = tuple(
        Answer(text_of(each, "answer").strip(), -number_of(each, "rank"), str(each.get("model") or ""))
        for each in objects_of(row, "answers")
    )
    return Item(turns, answers)


FAMILY = Family(
    "Nectar: HH prompts with ranked answers",
    ("prompt", "answers"),
    alone(_read),
    fits=lambda row: (
        isinstance(row["answers"], list)
        and any(isinstance(each, dict) and "rank" in each for each in row["answers"])
    ),
)
