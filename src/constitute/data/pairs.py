"""Read pairs of answers to one prompt, to be labelled: a/b or chosen/rejected, text, messages or HH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from constitute.data.prompts import Names, clean, content_id, conversation, ending_with_user
from constitute.data.rows import BadLine, Row, Unusable, collect, read_rows
from constitute.hh import is_hh, parse_hh, split_answer
from constitute.strict_yaml import shorten
from constitute.types import Comparison, Message, Prompt

SIDES = (("a", "b"), ("chosen", "rejected"))


def read_pairs(
    spec: str | Path, *, limit: int | None = None, skip_bad: bool = False
) -> tuple[list[Comparison], list[BadLine]]:
    """The first `limit` pairs of `spec` and the lines that hold none; files as in `read_prompts`.

    A row holds `prompt` (text, HH transcript or messages) and two answers, `a` and `b` or `chosen` and
    `rejected`, each as text or messages; or two whole conversations that differ in the last answer
    alone. The first answer becomes A. Equal answers are kept: the labeller decides about them.
    Raises `UsageError` or `DataError` with file and line; with `skip_bad` bad lines are returned instead.
    """
    names = Names()
    source = Path(spec).name

    def convert(row: Row) -> Comparison:
        first, second = _sides(row.value)
        messages, a, b = pair(row.value, first, second)
        name = names.take(row, content_id(messages, a, b))
        prompt = Prompt(id=content_id(messages), messages=messages, source=source)
        return Comparison(id=name, prompt=prompt, a=a, b=b, a_source=first, b_source=second)

    rows = read_rows(spec, "prompt")
    return collect(rows, convert, spec=spec, what="pairs", limit=limit, skip_bad=skip_bad)


def pair(value: dict[str, Any], first: str, second: str) -> tuple[tuple[Message, ...], str, str]:
    """The prompt and both answers of a row. Raises `Unusable`."""
    stem: tuple[Message, ...] | None = None
    if value.get("prompt") is not None:
        stem = conversation(value["prompt"], "prompt")
        if isinstance(value["prompt"], str) and stem and stem[-1].role == "assistant":
            # An HH prompt ends with the cue of the turn to be written.
            stem, said = split_answer(stem)
            if said:
                raise Unusable("prompt ends with an answer; it must end with the user's turn")
    before_a, a = _answer(value[first], first, stem)
    before_b, b = _answer(value[second], second, stem)
    if before_a != before_b:
        raise Unusable(f"{first} and {second} answer different conversations")
    return ending_with_user(before_a, "prompt" if stem is not None else first), a, b


def _sides(value: dict[str, Any]) -> tuple[str, str]:
    for first, second in SIDES:
        if value.get(first) is not None and value.get(second) is not None:
            return first, second
    found = ", ".join(map(repr, value)) or "no key"
    raise Unusable(f"two answers are needed, a and b or chosen and rejected; found {found}")


def _answer(value: Any, key: str, stem: tuple[Message, ...] | None) -> tuple[tuple[Message, ...], str]:
    """What stands before an answer, and the answer; `stem` is the row's own prompt where it has one."""
    if isinstance(value, str) and not is_hh(value):
        if stem is None:
            raise Unusable(f"{key} is plain text and there is no prompt; add the key prompt")
        return stem, clean(value, key)
    messages = parse_hh(clean(value, key)) if isinstance(value, str) else conversation(value, key)
    if not messages or messages[-1].role != "assistant":
        raise Unusable(f"{key} must end with a turn of the assistant, not {shorten(repr(value))}")
    before, answer = split_answer(messages)
    if stem is None or before == stem:
        return before, answer
    if before:
        raise Unusable(f"{key} repeats another conversation than the prompt")
    return stem, answer
