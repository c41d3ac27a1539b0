"""Read the prompts out of a model's answer: numbered lists, bullets, quotes, several in one line."""

from __future__ import annotations

import re

# "1.", "2)", "(3)", "#4", "5:", with or without stars around; only at the start of a line.
_NUMBER = r"(?:\*\*|__)?[(#]?(\d{1,3})[.):](?:\*\*|__)?"
_MARK = re.compile(rf"^\s*(?:{_NUMBER}|[-*•–])(?:\s+|$)")
_INLINE = re.compile(rf"(?:^|\s){_NUMBER}\s+(?=\S)")
# "User:", "Prompt 3:", "**Message:**" before the prompt itself.
_LABEL = re.compile(r"(?i)^[*_\"“]*(?:user|human|prompt|message|question)(?:\s+\d{1,3})?\s*:[*_\"”]*\s*")
# "Sure! Here are ten messages that …", which is about the list and no prompt of it.
_TALK = re.compile(
    r"(?i)^(?:[\w ]{1,20}[!,.]\s+)?here(?:'s|’s| is| are)\b.*\b(?:list|messages?|prompts?|questions?)\b"
)
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("«", "»"), ("`", "`"), ("**", "**"))


def listed(text: str, *, single: bool = False) -> list[str]:
    """The prompts of an answer, in its order, empty ones left out.

    In an answer with list marks, lines without one belong to the mark above them up to a blank line, and what
    stands before the first mark or after a blank line is talk. Without marks, each line is a prompt, except
    one that ends with a colon or announces a list; where a `single` prompt was asked for, all lines are one.
    """
    lines = [line for whole in text.strip().splitlines() for line in _split(whole)]
    if not any(_MARK.match(line) for line in lines):
        found = [line for line in lines if not (line.rstrip().endswith(":") or _TALK.match(line))]
        found = ["\n".join(found)] if single else found
        return [prompt for line in found if (prompt := bare(line))]
    items: list[str] = []
    within = False
    for line in lines:
        mark = _MARK.match(line)
        if mark:
            items.append(line[mark.end() :])
            within = True
        elif not line.strip():
            within = False
        elif within:
            items[-1] = f"{items[-1]} {line.strip()}"
    return [prompt for item in items if (prompt := bare(item))]


def _split(line: str) -> list[str]:
    """A line as several where numbers that count up stand in it: `1. One? 2. Two?`."""
    marks = list(_INLINE.finditer(line))
    starts: list[int] = []
    expected = None
    for mark in marks:
        number = int(mark.group(1))
        if expected is None or number == expected:
            starts.append(mark.start())
            expected = number + 1
    if len(starts) < 2:
        return [line]
    before = line[: starts[0]].strip()
    ends = [*starts[1:], len(line)]
    return [*([before] if before else []), *(line[a:b].strip() for a, b in zip(starts, ends, strict=True))]


def bare(text: str) -> str:
    """A prompt without a label before it and without quotes around all of it."""
    said = text.strip()
    while True:
        before = said
        for opening, closing in _QUOTES:
            inner = said[len(opening) : -len(closing)]
            wrapped = (
                said.startswith(opening) and said.endswith(closing) and len(said) > len(opening + closing)
            )
            if wrapped and closing not in inner and opening not in inner:
                said = inner.strip()
        said = _LABEL.sub("", said).strip()
        if said == before:
            return said
