"""NeMo-RL's preference rows: a context and completions with ranks, 0 the best."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.readers.base import (
    Answer,
    Family,
    Item,
    Unusable,
    Value,
    alone,
    number_of,
    objects_of,
    text_of,
)


def _read(row: Value, config: ReadConfig) -> Item:
    return Item(
        objects_of(row, "context"),
        tuple(Answer(_text(each), -number_of(each, "rank")) for each in objects_of(row, "completions")),
    )


def _text(completion: Value) -> str:
    turns = objects_of(completion, "completion")
    if len(turns) != 1:
        raise Unusable(f"a completion must be one turn of the assistant, not {len(turns)} turns")
    return text_of(turns[0], "content")


FAMILY = Family(
    "NeMo-RL: a context and ranked completions",
    ("context", "completions"),
    alone(_read),
    fits=lambda row: isinstance(row["context"], list) and isinstance(row["completions"], list),
)
