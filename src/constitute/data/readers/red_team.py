"""HH's red-team attempts: a transcript with the attacker's rating; its first turn is the prompt."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.readers.base import Family, Item, Unusable, Value, alone, asked, text_of
from constitute.hh import holds_turns, parse_hh


def _read(row: Value, config: ReadConfig) -> Item:
    text = text_of(row, "transcript")
    first = (
        next((turn for turn in parse_hh(text) if turn.role == "user"), None) if holds_turns(text) else None
    )
    if first is None:
        raise Unusable("transcript holds no turn of the human")
    return Item(asked(first.content))


FAMILY = Family(
    "HH red-team attempts: transcripts whose first turn is the prompt",
    ("transcript", "min_harmlessness_score_transcript"),
    alone(_read),
)
