"""Choose distinct items from everything that was written.

Deviates from the paper (arXiv 2212.09251), which removes no duplicates: repeats and near repeats are dropped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain

from constitute.data.thin import NearDuplicates
from constitute.types import EvalItem, Record

_NOT_WORD = re.compile(r"[^\w]+|_")
# Statements are a dozen words long: runs of characters see a changed ending as less than a changed word.
_CHARACTERS = 5


class Selection(Record):
    """The items kept, in file order, and how many candidates were dropped for each reason."""

    items: tuple[EvalItem, ...]
    dropped: dict[str, int]


def fold(text: str) -> str:
    """Text without case, punctuation and runs of blanks: what two copies of a sentence share."""
    return " ".join(_NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split())


def near_texts(threshold: float) -> NearDuplicates:
    """What finds short texts that are nearly the same: by the character 5-grams of their folded forms."""
    return NearDuplicates(threshold, run=_CHARACTERS, of=fold)


def drop_repeats(items: Sequence[EvalItem], texts: Sequence[str], threshold: float | None) -> list[EvalItem]:
    """The items whose text is unlike that of all items kept before; every item without a threshold."""
    if threshold is None:
        return list(items)
    seen = near_texts(threshold)
    return [item for item, text in zip(items, texts, strict=True) if seen.like(item.id, text) is None]


def alternating(
    first: Sequence[EvalItem], second: Sequence[EvalItem], per_label: int
) -> tuple[tuple[EvalItem, ...], dict[str, int]]:
    """Items of two labels, the best ahead, as equally many that alternate; and what that leaves out."""
    size = min(per_label, len(first), len(second))
    # Good enough and wanted, but there is no item of the other label to balance them.
    unbalanced = min(per_label, max(len(first), len(second))) - size
    kept = tuple(chain.from_iterable(zip(first[:size], second[:size], strict=True)))
    over = len(first) + len(second) - len(kept) - unbalanced
    return kept, {"other label missing": unbalanced, "more than wanted": over}
