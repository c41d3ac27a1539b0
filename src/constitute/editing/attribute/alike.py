"""Which principles vote alike, and the fewest that reproduce most decisions of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from constitute.stats import Estimate, correlation, share_of
from constitute.types import Record

ALIKE = 0.9
LEAST_SHARED = 3


# The smallest subset: the share of decisions to keep, and up to how many principles every subset is tried.
WANTED = 0.95
EXACT_UP_TO = 16
# Subsets times pairs that are tried in about two seconds.
MOST_WORK = 2**16 * 500

Decided = Sequence[tuple[Mapping[str, float], int]]


class VoteGroup(Record):
    """Principles that vote alike; `same` is the share of pairs on which all of them prefer the same answer.

    The pairs are those all voted on and at least one of them confidently.
    """

    members: tuple[str, ...]
    same: Estimate


class Subset(Record):
    """Principles that alone keep `kept` of `n` decisions of all; an upper bound unless `exact`."""

    members: tuple[str, ...]
    exact: bool
    kept: int
    n: int
    share: Estimate


def side(value: float) -> int:
    """1 for A, -1 for B, 0 for neither; a rounding error is neither."""
    return 0 if abs(value) < 1e-12 else 1 if value > 0 else -1


def groups_of(ids: Sequence[str], tilts: Sequence[Mapping[str, float]], margin: float) -> list[VoteGroup]:
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


def _group(names: Sequence[str], tilts: Sequence[Mapping[str, float]], margin: float) -> VoteGroup:
    shared = [row for row in tilts if all(name in row for name in names)]
    full = [{side(row[n]) for n in names} for row in shared if _confident([row[n] for n in names], margin)]
    same = sum(len(sides) == 1 for sides in full)
    return VoteGroup(members=tuple(names), same=share_of(same, len(full)))


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
    found = correlation([a for a, _ in both], [b for _, b in both])
    return found is not None and found >= ALIKE and agree >= ALIKE


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
    kept = _hits(chosen, rows, 0)
    return Subset(
        members=tuple(ids[at] for at in chosen),
        exact=exact,
        kept=kept,
        n=len(rows),
        share=share_of(kept, len(rows)),
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
