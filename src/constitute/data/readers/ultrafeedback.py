"""UltraFeedback as published (openbmb/UltraFeedback): an instruction, four answers, their ratings."""

from __future__ import annotations

import math
from typing import Any

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
    objects_of,
    text_of,
)

_ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
_OVERALL = ("overall_score", "fine-grained_score")


def _read(row: Value, config: ReadConfig) -> Item:
    """The score is the mean of the aspects rated; `read.criterion` takes one aspect or an overall score.

    Not `overall_score` by default: about 2,000 answers that were given 1 are stored with 10 there.
    """
    aspect = config.criterion
    if aspect and aspect not in (*_ASPECTS, *_OVERALL):
        raise Unusable(f"read.criterion is {aspect!r}; known are {', '.join((*_ASPECTS, *_OVERALL))}")
    answers = tuple(
        Answer(text_of(each, "response"), _score(each, aspect), str(each.get("model") or ""))
        for each in objects_of(row, "completions")
    )
    return Item(asked(text_of(row, "instruction")), answers)


def _score(answer: Value, aspect: str) -> float | None:
    if aspect in _OVERALL:
        given = answer.get(aspect)
        missing = given is None or (isinstance(given, float) and math.isnan(given))
        return None if missing else number_of(answer, aspect)
    found = [
        _rating((answer.get("annotations") or {}).get(each)) for each in ([aspect] if aspect else _ASPECTS)
    ]
    known = [rating for rating in found if rating is not None]
    return sum(known) / len(known) if known else None


def _rating(note: Any) -> float | None:
    """A rating from 1 to 5, None for `N/A`; some releases hold each note in a list."""
    if isinstance(note, list):
        note = note[0] if note else None
    given = note.get("Rating") if isinstance(note, dict) else None
    return None if given in (None, "N/A") else number_of({"Rating": given}, "Rating")


FAMILY = Family(
    "UltraFeedback: instructions with several answers and their ratings",
    ("instruction", "completions"),
    alone(_read),
    fits=lambda row: isinstance(row["completions"], list),
)
