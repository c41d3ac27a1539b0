"""Thin out a training set as a whole: rows that are nearly the same, and pairs that the longer answer wins.

Near-duplicates are found exactly, not by MinHash: rows whose sets of word runs have a Jaccard index of at
least t share one of the |S| - ceil(t |S|) + 1 least runs of each, in any fixed order (prefix filtering:
Bayardo, Ma and Srikant, "Scaling up all pairs similarity search", 2007). What shares one is compared in full.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import defaultdict
from collections.abc import Iterable

from constitute.data.formats import Kind, Row
from constitute.stages.filters.base import grams, words

# Words in a run, as in the deduplication of web text (arXiv 2306.01116).
_RUN = 5
# Pairs are matched within these ratios of the longer answer to the shorter, so that size tells nothing.
_RATIOS = (1.1, 1.25, 1.5, 2.0, 4.0)


class NearDuplicates:
    """Rows seen so far. Memory: 8 bytes a word of those that were kept, and an entry for a part of them."""

    def __init__(self, threshold: float, run: int = _RUN) -> None:
        """Texts are compared by their runs of `run` words."""
        self._threshold, self._run = threshold, run
        self._kept: list[tuple[str, array[int]]] = []
        self._index: defaultdict[int, list[int]] = defaultdict(list)

    def like(self, row_id: str, text: str) -> str | None:
        """The id of the first row kept that `text` is nearly the same as; None where it is new, and kept."""
        found = sorted({run_hash(run) for run in grams(words(text), self._run)})
        prefix = found[: len(found) - math.ceil(self._threshold * len(found) - 1e-9) + 1]
        near = sorted({at for run in prefix for at in self._index.get(run, ())})
        own = set(found)
        for at in near:
            name, other = self._kept[at]
            both = len(own.intersection(other))
            if both >= self._threshold * (len(own) + len(other) - both) - 1e-9:
                return name
        for run in prefix:
            self._index[run].append(len(self._kept))
        self._kept.append((row_id, array("Q", found)))
        return None


def run_hash(run: tuple[str, ...]) -> int:
    """64 bits that stand for a run of words."""
    return int.from_bytes(hashlib.blake2b(" ".join(run).encode(), digest_size=8).digest(), "big")


def text_of(row: Row, kind: Kind) -> str:
    """What is compared of a training row: all that is said in it, system turns left out."""
    turns = row["messages"] if kind == "sft" else [*row["prompt"], *row["chosen"], *row["rejected"]]
    return "\n".join(turn["content"] for turn in turns if turn["role"] != "system")


def unmatched(rows: Iterable[Row], seed: int) -> set[str]:
    """Ids of the preference rows to leave out so that the longer answer is chosen in half of the others.

    Where the longer one is chosen more often, or less, rows of that side are left out by hashing (seed, id),
    within each range of length ratios. Rows of equal lengths or with P = 0.5 stay.
    """
    sides: defaultdict[int, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for row in rows:
        chosen, rejected = (len(row[key][-1]["content"]) for key in ("chosen", "rejected"))
        if chosen == rejected or row["chosen_prob"] == 0.5:
            continue
        ratio = max(chosen, rejected) / max(1, min(chosen, rejected))
        sides[sum(ratio >= edge for edge in _RATIOS)][chosen > rejected].append(row["id"])
    out: set[str] = set()
    for shorter, longer in sides.values():
        most = max(shorter, longer, key=len)
        ranked = sorted(most, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
        out.update(ranked[min(len(shorter), len(longer)) :])
    return out
