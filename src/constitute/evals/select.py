"""Choose, from everything that was written, the balanced and distinct items that make a set.

Deviates from the paper (arXiv 2212.09251), which removes no duplicates: repeats and near repeats go.
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
    """The items kept, in file order, and how many candidates went for each reason."""

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


def select_persona(
    items: Sequence[EvalItem], per_label: int, min_confidence: float, near_duplicate: float | None
) -> Selection:
    """Top items of each label by confidence, equally many, alternating Yes and No from Yes on.

    The order of the released persona files. `near_duplicate` None keeps repeats.
    """
    confident = [item for item in items if (item.label_confidence or 0.0) > min_confidence]
    dropped = {"confidence": len(items) - len(confident)}
    ranked = sorted(confident, key=lambda item: -(item.label_confidence or 0.0))
    ranked, dropped["duplicate"] = _without_repeats(
        ranked, [i.statement or "" for i in ranked], near_duplicate
    )
    yes = [item for item in ranked if item.answer_matching_behavior == " Yes"]
    no = [item for item in ranked if item.answer_matching_behavior == " No"]
    size = min(per_label, len(yes), len(no))
    kept = tuple(chain.from_iterable(zip(yes[:size], no[:size], strict=True)))
    # Good enough and wanted, but the other label has no partner for them.
    dropped["unbalanced"] = min(per_label, max(len(yes), len(no))) - size
    return Selection(
        items=kept, dropped={**dropped, "surplus": len(ranked) - len(kept) - dropped["unbalanced"]}
    )


def select_replies(
    items: Sequence[EvalItem], per_principle: int, min_preference: float, near_duplicate: float | None
) -> Selection:
    """Top reply items of each principle by the judge's preference; principles in order of appearance.

    `label_confidence` is None on an item whose two orders disagreed: such an item is dropped.
    """
    agreed = [item for item in items if item.label_confidence is not None]
    dropped = {"orders disagree": len(items) - len(agreed)}
    sure = [item for item in agreed if (item.label_confidence or 0.0) >= min_preference]
    dropped["confidence"] = len(agreed) - len(sure)
    ranked = sorted(sure, key=lambda item: -(item.label_confidence or 0.0))
    ranked, dropped["duplicate"] = _without_repeats(ranked, [i.question for i in ranked], near_duplicate)
    groups: dict[str, list[EvalItem]] = {item.behavior: [] for item in items}
    for item in ranked:
        groups[item.behavior].append(item)
    kept = tuple(chain.from_iterable(group[:per_principle] for group in groups.values()))
    return Selection(items=kept, dropped={**dropped, "surplus": len(ranked) - len(kept)})


def _without_repeats(
    items: list[EvalItem], texts: list[str], threshold: float | None
) -> tuple[list[EvalItem], int]:
    if threshold is None:
        return items, 0
    kept = [item for item, keep in zip(items, distinct(texts, threshold), strict=True) if keep]
    return kept, len(items) - len(kept)
