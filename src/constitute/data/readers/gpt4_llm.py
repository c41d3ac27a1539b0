"""GPT-4-LLM's comparisons (comparison_data.json): two or three answers with scores from GPT-4."""

from __future__ import annotations

import re

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
)

# The marks of Alpaca's layout, with the sentence before them.
_LAYOUT = re.compile(
    r"\A.*?### Instruction:\s*(?P<asked>.*?)(?:\s*### Input:\s*(?P<input>.*?))?\s*### Response:\s*\Z",
    re.DOTALL,
)


def _read(row: Value, config: ReadConfig) -> Item:
    given = text_of(row, "user_input")
    layout = _LAYOUT.match(given)
    if layout is not None:
        given = "\n\n".join(part for part in (layout["asked"], layout["input"]) if part)
    answers = tuple(
        Answer(text_of(each, "response"), number_of(each, "score"), str(each.get("source") or ""))
        for each in objects_of(row, "responses_and_scores")
    )
    return Item(asked(given), answers)


FAMILY = Family(
    "GPT-4-LLM: instructions with scored answers", ("user_input", "responses_and_scores"), alone(_read)
)
