"""Revisions that are the critique, word for word or nearly, and revisions that changed nothing."""

from __future__ import annotations

from collections import Counter

from constitute.config import FilterConfig
from constitute.stages.filters.base import Candidate, RowFilter, Shown, grams, words

# Three words in a row: a reply on the same subject shares words with its critique, seldom runs of three.
_RUN = 3
# A copy that was cut at another length still begins as the critique does.
_OPENING = 8


def likeness(one: str, other: str) -> float:
    """Share of the runs of three words that both texts have, in [0, 1]: 2 |both| / (|one| + |other|)."""
    first, second = (Counter(grams(words(text), _RUN)) for text in (one, other))
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 0.0


def contained(one: str, other: str) -> float:
    """Share of `one`'s runs of three words that `other` has, in [0, 1]."""
    first, second = (Counter(grams(words(text), _RUN)) for text in (one, other))
    return (first & second).total() / first.total() if first else 0.0


def _copies(found: Candidate, cfg: FilterConfig, shown: Shown) -> str:
    """A reply that takes up a wording from a longer critique is no copy: it does not open as the critique."""
    if found.before is None or not found.critique or found.skipped:
        return ""
    # A critique that only repeats the answer is copied by every unchanged revision.
    if likeness(found.text, found.before) >= likeness(found.text, found.critique):
        return ""
    opening = min(_OPENING, len(words(found.text)))
    begins = words(found.text)[:opening] == words(found.critique)[:opening] and opening > 0
    cut = begins and max(contained(found.text, found.critique), contained(found.critique, found.text))
    if max(likeness(found.text, found.critique), cut) < cfg.alike:
        return ""
    return "the revision is the critique, word for word or nearly"


def _unchanged(found: Candidate, cfg: FilterConfig, shown: Shown) -> str:
    """Blanks and case do not count, all else does: the smallest edit may be the one that was wanted."""
    if found.before is None:
        return ""
    if found.skipped:
        return "the critique found nothing to mend"
    same = " ".join(found.text.split()).casefold() == " ".join(found.before.split()).casefold()
    return "the revision changed nothing" if same else ""


COPIES_CRITIQUE = RowFilter("revisions that are their critique, word for word or nearly", _copies)
UNCHANGED = RowFilter("revisions that changed nothing", _unchanged)
