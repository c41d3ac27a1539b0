"""Find the fewest principles that reproduce most decisions of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from constitute.editing.attribute.groups import side
from constitute.stats import wilson
from constitute.types import Record

WANTED = 0.95
EXACT_UP_TO = 16
# Subsets times pairs that are tried in about two seconds.
MOST_WORK = 2**16 * 500

Decided = Sequence[tuple[Mapping[str, float], int]]


class Subset(Record):
    """Principles that prefer what all do on `same` of `n` pairs; an upper bound unless `exact`."""

    members: tuple[str, ...]
    exact: bool
    same: int
    n: int
    low: float
    high: float


def smallest_subset(
    ids: Sequence[str], decided: Decided, wanted: float = WANTED, exact_up_to: int = EXACT_UP_TO
) -> Subset | None:
    """The smallest subset by size, then by most decisions, then by id; None where nothing was decided.

    `decided` holds, a pair, w (2p - 1) by principle that voted and the side (1, -1) of the label. Up to
    `exact_up_to` principles and `MOST_WORK` every subset is tried in order of size, a try ending at one
    miss too many; beyond, principles are added greedily and then dropped where they are not needed.
    """
    if not decided:
        return None
    # Close calls fail first, so that most tries end early.
    hardest = sorted(decided, key=lambda row: abs(math.fsum(row[0].values())))
    rows = [tuple(towards * votes.get(name, 0.0) for name in ids) for votes, towards in hardest]
    need = math.ceil(wanted * len(rows) - 1e-9)
    exact = len(ids) <= exact_up_to and 2 ** len(ids) * len(rows) <= MOST_WORK
    chosen = _exact(len(ids), rows, need) if exact else _greedy(len(ids), rows, need)
    same = _hits(chosen, rows, 0)
    low, high = wilson(same, len(rows))
    return Subset(
        members=tuple(ids[at] for at in chosen), exact=exact, same=same, n=len(rows), low=low, high=high
    )


def _hits(subset: Sequence[int], rows: Sequence[Sequence[float]], need: int) -> int:
    """Pairs whose side the subset keeps; 0 as soon as `need` is out of reach."""
    left = len(rows) - need
    hits = 0
    for row in rows:
        if side(math.fsum([row[at] for at in subset])) > 0:
            hits += 1
        else:
            left -= 1
            if left < 0 < need:
                return 0
    return hits


def _exact(width: int, rows: Sequence[Sequence[float]], need: int) -> tuple[int, ...]:
    for size in range(1, width):
        found = [(_hits(subset, rows, need), subset) for subset in combinations(range(width), size)]
        best = max(found, key=lambda each: each[0])
        if best[0] >= need:
            return best[1]
    return tuple(range(width))


def _greedy(width: int, rows: Sequence[Sequence[float]], need: int) -> tuple[int, ...]:
    chosen: list[int] = []
    while _hits(chosen, rows, 0) < need:
        rest = [at for at in range(width) if at not in chosen]
        if not rest:
            break
        chosen.append(max(rest, key=lambda at: (_hits([*chosen, at], rows, 0), -at)))
    for at in list(chosen):
        fewer = [other for other in chosen if other != at]
        if fewer and _hits(fewer, rows, 0) >= need:
            chosen = fewer
    return tuple(sorted(chosen))
