"""NVIDIA's HelpSteer2 and HelpSteer3: ratings from 0 to 4, and preferences from -3 to 3."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

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
    number_of,
    text_of,
    turn,
)

_ASPECTS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_TURN = re.compile(r"\n*<extra_id_1>(User|Assistant)\n")


def _ratings(rows: Sequence[Value], config: ReadConfig) -> Iterator[Found]:
    """Rows in succession with one prompt are its answers; `read.criterion` names the rating."""
    aspect = config.criterion or "helpfulness"
    if aspect not in _ASPECTS:
        raise Unusable(f"read.criterion is {aspect!r}; known are {', '.join(_ASPECTS)}")
    answers = tuple(Answer(text_of(row, "response"), number_of(row, aspect)) for row in rows)
    yield Item(_turns(rows[0]), answers)


def _second(row: Value, config: ReadConfig) -> Found:
    first, second = (Answer(text_of(row, f"response_{at}")) for at in (1, 2))
    return Item(_turns(row), judged(first, second, number_of(row, "preference_strength")))


def _third(row: Value, config: ReadConfig) -> Found:
    first, second = (Answer(text_of(row, f"response{at}")) for at in (1, 2))
    return Item(row["context"], judged(first, second, number_of(row, "overall_preference")))


def _turns(row: Value) -> list[Value]:
    """A prompt of several turns is one text, in which marks name who speaks from there on."""
    first, *rest = _TURN.split(text_of(row, "prompt"))
    said = zip(rest[::2], rest[1::2], strict=True)
    return [turn("user", first), *(turn(name.lower(), text) for name, text in said)]


RATINGS_2 = Family(
    "HelpSteer2: responses with five ratings",
    ("prompt", "response", *_ASPECTS),
    _ratings,
    group=lambda row: str(row["prompt"]),
)
PREFERENCE_2 = Family(
    "HelpSteer2: two responses and a preference from -3 to 3",
    ("prompt", "response_1", "response_2", "preference_strength"),
    alone(_second),
)
PREFERENCE_3 = Family(
    "HelpSteer3: conversations with two responses and a preference from -3 to 3",
    ("context", "response1", "response2", "overall_preference"),
    alone(_third),
    fits=lambda row: isinstance(row["context"], list),
)
