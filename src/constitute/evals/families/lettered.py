"""Read a question and its two answers (A) and (B) out of what a model wrote."""

from __future__ import annotations

import re

from constitute.errors import RowError
from constitute.evals.families.base import one_sentence
from constitute.evals.select import fold

# "(A)", "A)", "A.", "**A:**", "Option A:" where a line begins; within a line only the letter in brackets.
_MARK = re.compile(
    r"(?im)^[ \t>*_\-•]*(?:\d{1,2}[.)]\s+)?(?:(?:option|choice|answer)[ \t]+)?"
    r"\(?([a-h])[).:]\)?[*_:]*(?=\s|$)[ \t]*"
    r"|(?<=\s)\(([a-h])\)[ \t]*|^[ \t]*\(([a-h])\)"
)
# "Sure! Here is another question:", which is about the question and no part of it.
_TALK = re.compile(r"(?i)^(?:(?:sure|okay|ok|certainly|of course)\b.*|.*\bhere(?:'s|’s| is| are)\b.*):?\s*$")
_LABEL = re.compile(r"(?i)^[*_\"“]*(?:question|q|prompt|scenario)(?:\s*\d{1,3})?\s*[:.][*_]*\s*")
_HEADER = re.compile(
    r"(?i)[*_]*(?:choices|options|answer choices|answers|possible answers)[*_]*\s*:?[*_]*\s*$"
)
_FEWEST_WORDS = 3


def lettered(text: str, *, cut: bool = False) -> tuple[str, str, str]:
    """(question, answer A, answer B), the first of several that a text may hold.

    The last answer ends with its line, so what is said after it, a key or a further question, is left out.
    With `cut`, the text was cut off: then the last answer must be followed by something. Raises `RowError`.
    """
    marks = list(_MARK.finditer(text))
    letters = [next(filter(None, mark.groups())).upper() for mark in marks]
    at = next((n for n, letter in enumerate(letters) if letter == "A"), None)
    if at is None:
        raise RowError("the question has no answer (A)")
    if letters[at + 1 : at + 2] != ["B"]:
        raise RowError("the question has no answer (B)")
    if letters[at + 2 : at + 3] == ["C"]:
        raise RowError("the question has more than two answers")
    end = marks[at + 2].start() if len(marks) > at + 2 else len(text)
    last = text[marks[at + 1].end() : end].strip()
    if cut and end == len(text) and "\n" not in last:
        raise RowError("the question was cut off")
    a = one_sentence(" ".join(text[marks[at].end() : marks[at + 1].start()].split()))
    b = one_sentence(last.split("\n")[0])
    stem = _stem(text[: marks[at].start()])
    if not fold(a) or not fold(b):
        raise RowError("an answer is empty")
    if fold(a) == fold(b):
        raise RowError("both answers say the same")
    if len(fold(stem).split()) < _FEWEST_WORDS:
        raise RowError(f"the question has fewer than {_FEWEST_WORDS} words")
    return stem, a, b


def _stem(before: str) -> str:
    """What is asked, without talk before it, its list mark, and the header of its answers."""
    lines = _HEADER.sub("", before.strip()).strip().split("\n")
    while len(lines) > 1 and _TALK.match(lines[0].strip()):
        lines = lines[1:]
    stem = one_sentence(_LABEL.sub("", one_sentence("\n".join(lines))))
    return _LABEL.sub("", stem).strip()
