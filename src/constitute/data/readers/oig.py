"""OIG (LAION): a conversation as one text with the marks `<human>:` and `<bot>:`."""

from __future__ import annotations

import re

from constitute.config.data import ReadConfig
from constitute.data.readers.base import Family, Found, Unusable, Value, alone, text_of, turn
from constitute.data.readers.sharegpt import item_of

_MARK = re.compile(r"(?:\A|\n)\s*<(human|bot)>:")
_ROLES = {"human": "user", "bot": "assistant"}


def _read(row: Value, config: ReadConfig) -> Found:
    before, *rest = _MARK.split(text_of(row, "text"))
    turns = [
        turn(_ROLES[name], said.strip())
        for name, said in zip(rest[::2], rest[1::2], strict=True)
        if said.strip()
    ]
    if not turns or turns[0]["role"] != "user":
        raise Unusable("text does not begin with a turn of the human")
    return item_of([turn("system", before.strip()), *turns] if before.strip() else turns)


FAMILY = Family(
    "OIG: text with the marks <human>: and <bot>:",
    ("text",),
    alone(_read),
    fits=lambda row: isinstance(row["text"], str) and "<human>:" in row["text"],
)
