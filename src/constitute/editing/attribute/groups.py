"""Group principles whose votes say the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from constitute.stats import mean, wilson
from constitute.types import Record

ALIKE = 0.9
LEAST_SHARED = 3


class Group(Record):
    """Principles of one group; all prefer the same answer on `same` of `n` pairs.

    The pairs are those all voted on and at least one of them confidently.
    """

    members: tuple[str, ...]
    same: int
    n: int
    low: float
    high: float


def side(value: float) -> int:
    """1 for A, -1 for B, 0 for neither; a rounding error is neither."""
    return 0 if abs(value) < 1e-12 else 1 if value > 0 else -1


def groups_of(ids: Sequence[str], tilts: Sequence[Mapping[str, float]], margin: float) -> list[Group]:
    """Connected components of principles that are alike, largest first, then by first id.

    `tilts` holds 2p - 1 by principle, one mapping a pair. Two are alike when their correlation over the
    pairs both voted on, and the share of equal preferences where either |2p - 1| reaches `margin` (at least
    `LEAST_SHARED` pairs; the rest is noise around 0), both reach `ALIKE`, or their votes are equal
    throughout (a constant vote has no correlation).
    """
    parent = {name: name for name in ids}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for first, second in combinations(sorted(ids), 2):
        both = [(row[first], row[second]) for row in tilts if first in row and second in row]
        if _alike(both, margin):
            parent[root(second)] = root(first)
    members: dict[str, list[str]] = {}
    for name in sorted(ids):
        members.setdefault(root(name), []).append(name)
    return sorted(
        (_group(names, tilts, margin) for names in members.values()),
        key=lambda g: (-len(g.members), g.members),
    )


def _group(names: Sequence[str], tilts: Sequence[Mapping[str, float]], margin: float) -> Group:
    shared = [row for row in tilts if all(name in row for name in names)]
    full = [{side(row[n]) for n in names} for row in shared if _confident([row[n] for n in names], margin)]
    same = sum(len(sides) == 1 for sides in full)
    low, high = wilson(same, len(full))
    return Group(members=tuple(names), same=same, n=len(full), low=low, high=high)


def _confident(tilts: Sequence[float], margin: float) -> bool:
    return max(map(abs, tilts)) >= margin - 1e-9


def _alike(both: Sequence[tuple[float, float]], margin: float) -> bool:
    if len(both) < LEAST_SHARED:
        return False
    if all(abs(a - b) < 1e-12 for a, b in both):
        return True
    said = [pair for pair in both if _confident(pair, margin)]
    if len(said) < LEAST_SHARED:
        return False
    agree = sum(side(a) == side(b) for a, b in said) / len(said)
    found = correlation(both)
    return found is not None and found >= ALIKE and agree >= ALIKE


def correlation(both: Sequence[tuple[float, float]]) -> float | None:
    """Pearson's correlation, None where one side does not vary."""
    a_mean, b_mean = mean([a for a, _ in both]), mean([b for _, b in both])
    aa = math.fsum((a - a_mean) ** 2 for a, _ in both)
    bb = math.fsum((b - b_mean) ** 2 for _, b in both)
    if min(aa, bb) < 1e-18:
        return None
    return math.fsum((a - a_mean) * (b - b_mean) for a, b in both) / math.sqrt(aa * bb)
