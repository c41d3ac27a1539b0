"""PKU-SafeRLHF: a prompt and two responses, compared by helpfulness and by safety."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.readers.base import (
    Answer,
    Family,
    Item,
    Unusable,
    Value,
    alone,
    asked,
    judged,
    one_of,
    text_of,
)

_KEYS = {"better": "better_response_id", "safer": "safer_response_id"}


def _read(row: Value, config: ReadConfig) -> Item:
    """The two judgements may disagree: `read.criterion` says which counts, `better` if unsaid."""
    criterion = config.criterion or "better"
    if criterion not in _KEYS:
        raise Unusable(f"read.criterion is {criterion!r}; known are {', '.join(_KEYS)}")
    wins = one_of(row, _KEYS[criterion], (0, 1))
    first, second = (
        Answer(text_of(row, f"response_{at}"), None, str(row.get(f"response_{at}_source") or ""))
        for at in (0, 1)
    )
    return Item(asked(text_of(row, "prompt")), judged(first, second, 1.0 if wins == 1 else -1.0))


FAMILY = Family(
    "PKU-SafeRLHF: prompts with two responses, the better and the safer one named",
    ("prompt", "response_0", "response_1", "better_response_id", "safer_response_id"),
    alone(_read),
)
