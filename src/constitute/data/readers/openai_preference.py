"""OpenAI's rows for preference fine-tuning: an input, a preferred output and another one."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.readers.base import (
    Answer,
    Family,
    Found,
    Item,
    Unusable,
    Value,
    alone,
    judged,
    objects_of,
    text_of,
)


def _read(row: Value, config: ReadConfig) -> Found:
    if row["input"].get("tools"):
        return "the conversation has tools; only conversations in text can be used"
    better, worse = (_answer(row, key) for key in ("preferred_output", "non_preferred_output"))
    return Item(objects_of(row["input"], "messages"), judged(better, worse, -1.0))


def _answer(row: Value, key: str) -> Answer:
    found = objects_of(row, key)
    if len(found) != 1 or found[0].get("role") != "assistant":
        raise Unusable(f"{key} must hold one turn of the assistant")
    return Answer(text_of(found[0], "content"))


FAMILY = Family(
    "OpenAI preference fine-tuning: input, preferred and non-preferred output",
    ("input", "preferred_output", "non_preferred_output"),
    alone(_read),
    fits=lambda row: isinstance(row["input"], dict),
)
