"""WebGPT comparisons (openai/webgpt_comparisons): a question and two answers with scores that add up to 0."""

from __future__ import annotations

import re

from constitute.config.data import ReadConfig
from constitute.data.readers.base import (
    Answer,
    Family,
    Item,
    Unusable,
    Value,
    alone,
    asked,
    number_of,
    text_of,
)

# Marks of the quotes an answer rests on, which nobody sees in training: "[1]", "[1, 3]".
_MARKS = re.compile(r"[ ]?\[\d+(?:, ?\d+)*\]")


def _read(row: Value, config: ReadConfig) -> Item:
    question = row["question"]
    if not isinstance(question, dict):
        raise Unusable("question must be an object with full_text")
    answers = tuple(
        Answer(_MARKS.sub("", text_of(row, f"answer_{side}")), number_of(row, f"score_{side}"))
        for side in (0, 1)
    )
    return Item(asked(text_of(question, "full_text")), answers)


FAMILY = Family(
    "WebGPT: questions with two answers and their scores",
    ("question", "answer_0", "answer_1", "score_0", "score_1"),
    alone(_read),
)
