"""What a filter is, and what it is given of a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from constitute.config import FilterConfig
from constitute.types import Message, Principle

Gram = tuple[str, ...]
# Scripts without spaces between words count by character.
_BY_CHARACTER = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_BY_CHARACTER}]|[^\W_{_BY_CHARACTER}]+(?:['’][^\W_{_BY_CHARACTER}]+)*")


@dataclass(frozen=True)
class Candidate:
    """A text to train on: a revision with the answer before it and its critique, or a response alone.

    `before` is None where nothing was revised. `first` is the row's response. `skipped` says that the
    critique found nothing to mend, so that nothing was asked for.
    """

    text: str
    messages: tuple[Message, ...]
    first: str
    before: str | None = None
    critique: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class Shown:
    """What a model may have been shown besides the row: principles, and the texts of examples."""

    principles: tuple[Principle, ...] = ()
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowFilter:
    """`why` says in fixed words why a text is removed, empty where it stays.

    Reasons are counted by their words, so they hold nothing of the row. `check` raises `UsageError` for
    settings that the filter cannot work with. `about` is a line for people.
    """

    about: str
    why: Callable[[Candidate, FilterConfig, Shown], str]
    check: Callable[[FilterConfig], object] = lambda cfg: None


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; by character where words are not spaced."""
    return _WORD.findall(text.replace("’", "'").casefold())


def grams(words: Sequence[str], n: int) -> list[Gram]:
    """Every run of `n` words; of fewer words, all of them as one run, and none of no words."""
    if not words:
        return []
    return [tuple(words[at : at + n]) for at in range(max(1, len(words) - n + 1))]
