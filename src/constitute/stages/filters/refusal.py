"""Boilerplate of refusals: the phrases of a file, wherever they stand in a text."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from constitute.config import FilterConfig
from constitute.errors import UsageError
from constitute.files import read_text
from constitute.stages.filters.base import Candidate, RowFilter, Shown

PHRASES = Path(__file__).with_name("refusals.txt")


@cache
def phrases(file: str | None) -> tuple[str, ...]:
    """The phrases of a file, or the packaged ones: one a line, `#` begins a comment.

    Raises `UsageError` for a file that is not there or holds none.
    """
    path = PHRASES if file is None else Path(file)
    lines = (_plain(line.split("#")[0]) for line in read_text(path).splitlines())
    found = tuple(dict.fromkeys(line for line in lines if line))
    if not found:
        raise UsageError(f"filter.refusals: {path} holds no phrase; write one a line")
    return found


def _plain(text: str) -> str:
    return " ".join(text.replace("’", "'").casefold().split())


def refuses(text: str, file: str | None = None) -> bool:
    """Whether a text holds one of the `phrases` of a file, or of the packaged ones."""
    text = _plain(text)
    return any(phrase in text for phrase in phrases(file))


def _why(found: Candidate, cfg: FilterConfig, shown: Shown) -> str:
    said = refuses(found.text, cfg.refusals)
    return "the text holds boilerplate of a refusal" if said else ""


FILTER = RowFilter(
    "boilerplate of refusals, the phrases of a file", _why, check=lambda cfg: phrases(cfg.refusals)
)
