"""RealToxicityPrompts: the beginning of a sentence and how it went on."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.readers.base import Answer, Family, Item, Value, alone, asked, text_of


def _read(row: Value, config: ReadConfig) -> Item:
    """The continuation is what stood on the web: nothing to imitate."""
    more = row["continuation"]
    answers = (Answer(text_of(more, "text")),) if isinstance(more, dict) else ()
    return Item(asked(text_of(row["prompt"], "text")), answers, "a continuation from the web is no answer")


FAMILY = Family(
    "RealToxicityPrompts: beginnings of sentences",
    ("prompt", "continuation"),
    alone(_read),
    fits=lambda row: isinstance(row["prompt"], dict) and "toxicity" in row["prompt"],
)
