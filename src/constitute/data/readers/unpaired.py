"""Answers that are each good or bad, as TRL's unpaired preferences (KTO) hold them."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.pairs import answers
from constitute.data.readers.base import Answer, Family, Item, Value, alone, one_of, turn


def _read(row: Value, config: ReadConfig) -> Item:
    good = one_of(row, "label", (True, False))
    prompt, (text,) = answers(row, "completion")
    turns = [turn(each.role, each.content) for each in prompt]
    return Item(turns, (Answer(text, float(good)),), "" if good else "the answer is marked as bad")


FAMILY = Family(
    "TRL unpaired: a completion and whether it is good",
    ("prompt", "completion", "label"),
    alone(_read),
    fits=lambda row: str(row["label"]) in ("True", "False"),
)
