"""Our own rows of several answers to one prompt: ranked with the best first, or with scores or ranks."""

from __future__ import annotations

from constitute.config.data import ReadConfig
from constitute.data.prompts import conversation
from constitute.data.readers.base import (
    Answer,
    Family,
    Item,
    Unusable,
    Value,
    alone,
    texts_of,
    turn,
)
from constitute.hh import split_answer
from constitute.strict_yaml import shorten

_KEPT = ("weight", "principle_ids", "principle", "source")


def _ranked(row: Value, config: ReadConfig) -> Item:
    texts = texts_of(row, "ranked")
    return _item(row, texts, [-float(place) for place in range(len(texts))])


def _scored(row: Value, config: ReadConfig) -> Item:
    """`scores`: higher is better; `ranks`: lower is better. Equal numbers are ties."""
    texts = texts_of(row, "answers")
    key = "scores" if row.get("scores") is not None else "ranks"
    given = row.get(key)
    numbers = isinstance(given, list) and all(
        isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < float("inf")
        for each in given
    )
    if not isinstance(given, list) or not numbers or len(given) != len(texts):
        raise Unusable(f"{key} must be {len(texts)} numbers, one an answer, not {shorten(repr(given))}")
    sign = 1.0 if key == "scores" else -1.0
    return _item(row, texts, [sign * float(each) for each in given])


def _item(row: Value, texts: list[str], scores: list[float]) -> Item:
    messages = conversation(row["prompt"], "prompt")
    if isinstance(row["prompt"], str) and messages and messages[-1].role == "assistant":
        # An HH prompt ends with the cue of the turn to be written.
        messages, said = split_answer(messages)
        if said:
            raise Unusable("prompt ends with an answer; it must end with the user's turn")
    turns = [turn(each.role, each.content) for each in messages]
    answers = tuple(Answer(text, score) for text, score in zip(texts, scores, strict=True))
    return Item(turns, answers, extra={key: row[key] for key in _KEPT if row.get(key) is not None})


RANKED = Family("our own: answers to a prompt, the best first", ("prompt", "ranked"), alone(_ranked))
SCORED = Family(
    "our own: answers to a prompt with scores or ranks",
    ("prompt", "answers"),
    alone(_scored),
    fits=lambda row: (
        isinstance(row["answers"], list)
        and all(isinstance(each, str) for each in row["answers"])
        and (row.get("scores") is not None or row.get("ranks") is not None)
    ),
)
