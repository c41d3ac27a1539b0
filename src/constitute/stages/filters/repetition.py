"""Loops: a text much of which repeats runs of four words that it has said before."""

from __future__ import annotations

from constitute.config import FilterConfig
from constitute.stages.filters.base import Candidate, RowFilter, Shown, grams, words

_RUN = 4
# Under so many words, a refrain or a list is as likely as a loop.
_FEWEST = 16


def repeated(text: str) -> float:
    """Share of the runs of four words that stood before in the text, in [0, 1); 0 of a short text.

    A text that says one thing k times and nothing else comes near 1 - 1/k (compare
    arXiv 2112.11446, table A1).
    """
    found = words(text)
    if len(found) < _FEWEST:
        return 0.0
    runs = grams(found, _RUN)
    return 1 - len(set(runs)) / len(runs)


def _why(found: Candidate, cfg: FilterConfig, shown: Shown) -> str:
    # Where the user's own words repeat so, the answer may have to.
    asked = max((repeated(turn.content) for turn in found.messages if turn.role == "user"), default=0.0)
    looping = repeated(found.text) >= cfg.repeated > asked
    return "the text repeats itself in a loop" if looping else ""


FILTER = RowFilter("loops of words", _why)
