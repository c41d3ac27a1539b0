"""ShareGPT and Vicuna: conversations of `from` and `value`."""

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
    objects_of,
    text_of,
    turn,
)
from constitute.strict_yaml import shorten

_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "assistant", "model"), "assistant"),
    "system": "system",
}


def _read(row: Value, config: ReadConfig) -> Found:
    turns = [_turn(each) for each in objects_of(row, "conversations")]
    spoken = [each["role"] for each in turns if each["role"] != "system"]
    if not spoken:
        return "the conversation is empty"
    if spoken[0] == "assistant":
        return "the conversation begins with an answer: what it answers stands elsewhere"
    return item_of(turns)


def item_of(turns: list[Value]) -> Item:
    """A conversation as an item: its last turn is the answer where the assistant has it."""
    if turns[-1]["role"] != "assistant":
        return Item(turns)
    return Item(turns[:-1], (Answer(turns[-1]["content"]),))


def _turn(message: Value) -> Value:
    name = message.get("from")
    if name not in _ROLES:
        raise Unusable(f"a turn is from {shorten(repr(name))}; known are {', '.join(_ROLES)}")
    return turn(_ROLES[name], text_of(message, "value"))


FAMILY = Family(
    "ShareGPT: conversations of from and value",
    ("conversations",),
    alone(_read),
    fits=lambda row: (
        isinstance(row["conversations"], list)
        and all(isinstance(each, dict) and "from" in each for each in row["conversations"])
    ),
)
