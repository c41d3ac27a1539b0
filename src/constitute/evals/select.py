"""Choose distinct items from everything that was written.

Deviates from the paper (arXiv 2212.09251), which removes no duplicates: repeats and near repeats are dropped.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain

from constitute.types import EvalItem, Record

_NOT_WORD = re.compile(r"[^\w]+|_")


class Selection(Record):
    """The items kept, in file order, and how many candidates were dropped for each reason."""

    items: tuple[EvalItem, ...]
    dropped: dict[str, int]


def fold(text: str) -> str:
    """Text without case, punctuation and runs of blanks: what two copies of a sentence share."""
    return " ".join(_NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split())


def grams(text: str, size: int = 5) -> frozenset[str]:
    """Character n-grams of the folded text; a shorter text is its own single gram."""
    folded = fold(text)
    return frozenset(folded[i : i + size] for i in range(max(1, len(folded) - size + 1)))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Shared share of two sets, in [0, 1]."""
    return len(first & second) / len(first | second)


def distinct(texts: Sequence[str], threshold: float) -> list[bool]:
    """Whether each text is kept: not, where an earlier kept one has Jaccard >= `threshold`.

    Exact. Two sets that similar share a gram among the rarest |x| - ceil(t|x|) + 1 of each (prefix
    filtering, Chaudhuri et al. 2006), so only texts that share one are compared.
    """
    sets = [grams(text) for text in texts]
    frequency = Counter(chain.from_iterable(sets))
    kept_with: dict[str, list[int]] = defaultdict(list)
    keep: list[bool] = []
    for index, own in enumerate(sets):
        prefix = sorted(own, key=lambda gram: (frequency[gram], gram))
        # The margin keeps float rounding of t|x| from shortening the prefix by one.
        prefix = prefix[: len(own) - math.ceil(threshold * len(own) - 1e-9) + 1]
        near = {other for gram in prefix for other in kept_with[gram]}
        keep.append(all(jaccard(own, sets[other]) < threshold for other in near))
        if keep[-1]:
            for gram in prefix:
                kept_with[gram].append(index)
    return keep


def drop_repeats(items: Sequence[EvalItem], texts: Sequence[str], threshold: float | None) -> list[EvalItem]:
    """The items whose text is unlike that of all items kept before; every item without a threshold."""
    if threshold is None:
        return list(items)
    return [item for item, keep in zip(items, distinct(texts, threshold), strict=True) if keep]
