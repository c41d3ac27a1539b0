"""Thin out a training set as a whole: rows that are nearly the same, and pairs that the longer answer wins.

Rows that may be near-duplicates are found by MinHash and banding (Leskovec, Rajaraman and Ullman, "Mining of
massive datasets", section 3.4), and each is then compared in full: none is left out that is not one.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from constitute.data.formats import Kind, Row
from constitute.stages.filters.base import words

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Words in a run, as in the deduplication of web text (arXiv 2306.01116).
_RUN = 5
# A row whose Jaccard index with an earlier one is just the threshold is found with at least this probability.
_RECALL = 0.99
# Most hash functions: more make fewer comparisons and longer sketches.
_FUNCTIONS = 128
# Odd, so that multiplying by its powers loses no bit (Knuth's multiplicative hashing, 2^64 / golden ratio).
_FACTOR = 0x9E3779B97F4A7C15
# Pairs are matched within these ratios of the longer answer to the shorter, so that size tells nothing.
_RATIOS = (1.1, 1.25, 1.5, 2.0, 4.0)


def bands(threshold: float) -> tuple[int, int]:
    """Bands and rows a band: the longest that find a pair at the threshold with probability `_RECALL`.

    A pair of Jaccard index s is compared with probability 1 - (1 - s^rows)^bands.
    """
    found = [(_number(threshold**rows), rows) for rows in range(1, _FUNCTIONS // 2 + 1)]
    fitting = [each for each in found if math.prod(each) <= _FUNCTIONS] or found[:1]
    return fitting[-1]


def _number(agree: float) -> int:
    """Bands needed where two rows agree in one with probability `agree`; datasketch takes two and more."""
    return 2 if agree == 1 else max(2, math.ceil(math.log(1 - _RECALL) / math.log1p(-agree)))


class NearDuplicates:
    """Rows seen so far. Memory: for each that was kept, 8 bytes a word and some 6 KB of the index at 0.8."""

    def __init__(self, threshold: float, run: int = _RUN) -> None:
        """Texts are compared by their runs of `run` words."""
        from datasketch import MinHash, MinHashLSH

        number, rows = bands(threshold)
        self._threshold, self._run = threshold, run
        self._kept: list[tuple[str, NDArray[Any]]] = []
        self._words = _Words()
        self._sketch = MinHash(num_perm=number * rows, hashfunc=int)
        self._index = MinHashLSH(num_perm=number * rows, params=(number, rows))

    def like(self, row_id: str, text: str) -> str | None:
        """The id of the first row kept that `text` is nearly the same as; None where it is new, and kept."""
        import numpy

        own = self._runs(text)
        if not len(own):
            return None
        self._sketch.clear()
        self._sketch.update_batch((own >> numpy.uint64(32)).tolist())
        for at in sorted(self._index.query(self._sketch)):
            name, other = self._kept[at]
            both = len(numpy.intersect1d(own, other, assume_unique=True))
            if both >= self._threshold * (len(own) + len(other) - both) - 1e-9:
                return name
        self._index.insert(len(self._kept), self._sketch, check_duplication=False)
        self._kept.append((row_id, own))
        return None

    def _runs(self, text: str) -> NDArray[Any]:
        """Hashes of the runs of words, each once; of fewer words than a run, all of them as one."""
        import numpy

        ids = numpy.array([self._words[word] for word in words(text)], dtype=numpy.uint64)
        number = max(1, len(ids) - self._run + 1) if len(ids) else 0
        runs = numpy.zeros(number, dtype=numpy.uint64)
        for at in range(min(self._run, len(ids))):
            runs = runs * numpy.uint64(_FACTOR) + ids[at : at + number]
        return numpy.unique(runs)


class _Words(dict[str, int]):
    """The hash of each word, taken once."""

    def __missing__(self, word: str) -> int:
        found = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        self[word] = found
        return found


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
