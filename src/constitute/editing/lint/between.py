"""What the votes of two principles tell about them together: that they contradict or repeat each other.

Votes come as columns, as in `effects`. Two principles pull opposite ways where they prefer different answers
on most pairs that both decide, or where their P(A) correlate negatively over all pairs: the second sees a
principle that a judge follows too timidly to decide anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import NormalDist

from constitute.editing.lint.effects import (
    BOUNDS,
    Bounds,
    Column,
    Vote,
    counted,
    finding,
    preferred,
    share,
)
from constitute.editing.lint.findings import Finding
from constitute.stats import correlation, correlation_of, holm, mcnemar_exact, wilson
from constitute.types import Record


class Between(Record):
    """How two principles vote: `opposite` of the `n` pairs both decide, and r of P(A) over `shared` pairs.

    Of the `leaning` pairs on which both lean, they lean apart on `apart`. `correlation` is None where either
    never varies.
    """

    first: str
    second: str
    n: int
    opposite: int
    shared: int
    correlation: float | None
    leaning: int
    apart: int

    @property
    def names(self) -> tuple[str, str]:
        """The ids of both."""
        return self.first, self.second


def between(votes: Mapping[str, Column], bounds: Bounds = BOUNDS) -> list[Between]:
    """Every two principles, in the order given."""
    return [_between(a, b, votes[a], votes[b], bounds) for a, b in combinations(votes, 2)]


def mean_column(columns: Sequence[Column]) -> Column:
    """The mean of the votes on each pair, of those columns that have one there."""
    out: list[Vote | None] = []
    for votes in zip(*columns, strict=True):
        cast = [vote for vote in votes if vote is not None]
        out.append((_mean([v[0] for v in cast]), _mean([v[1] for v in cast])) if cast else None)
    return out


def contradictions(
    votes: Mapping[str, Column], reworded: Mapping[str, Column] | None = None, bounds: Bounds = BOUNDS
) -> list[Finding]:
    """Two principles that pull the same pairs opposite ways: a warning for each such two.

    Either of at least `least` pairs that both decide they are opposite on a share of `contradiction` or more,
    and a sign test against 1/2 (exact, two-sided) is under `level`; or P(A) correlates at -`correlation` or
    below over at least `shared` pairs, a test against -`correlation_low` (Fisher's z, one-sided) is under
    `level`, and the first condition holds, unadjusted, of the pairs on which both lean. Each test is adjusted
    by Holm over all principles so compared.

    `reworded` has the mean votes under a principle's paraphrases. They count where the judge makes nothing of
    the principle's own words: where the correlation of those is nearer to 0 than `mute`.
    """
    found = _contradicting(votes, reworded or {}, bounds)
    return [found[key] for key in combinations(votes, 2) if key in found]


def suspects(
    votes: Mapping[str, Column], reworded: Mapping[str, Column], bounds: Bounds = BOUNDS
) -> list[tuple[str, str]]:
    """Two principles each that pull apart on some pairs, without being found to contradict each other.

    Their P(A), under their own words or their paraphrases, correlate at -`suspect` or below, or they are
    opposite on most of at least 3 and fewer than `least` pairs that both decide.
    """
    known = _contradicting(votes, reworded, bounds)
    doubted = []
    for own, other in zip(between(votes, bounds), between(_said(votes, reworded), bounds), strict=True):
        r = min((row.correlation for row in (own, other) if row.correlation is not None), default=0.0)
        few = 3 <= own.n < bounds.least and 2 * own.opposite > own.n
        if (r <= -bounds.suspect or few) and own.names not in known:
            doubted.append(own.names)
    return doubted


def leans_apart(
    first: str, second: str, votes: Mapping[str, Column], among: int, bounds: Bounds = BOUNDS
) -> Finding | None:
    """A contradiction seen by one side: where `first` decides, `second` leans the other way.

    A warning where that is so on a share of `apart` or more, the lower end of its interval exceeds
    `apart_low` and a sign test, multiplied by `among` (how many such twos are tested), is under `level`.
    """
    sides = [
        preferred(x, bounds.margin) * preferred(y)
        for x, y in zip(votes[first], votes[second], strict=True)
        if x is not None and y is not None and preferred(x, bounds.margin)
    ]
    n, opposite = len(sides), sides.count(-1)
    p = min(1.0, among * mcnemar_exact(opposite, n - opposite))
    if opposite < bounds.apart * n or wilson(opposite, n)[0] <= bounds.apart_low or p >= bounds.level:
        return None
    said = (
        f"{first} and {second} pull opposite ways: {second} leans the other way on "
        f"{share(opposite, n, f'more pairs that {first} decides')} adjusted p {p:.2g}"
    )
    return finding("warning", "contradiction", first, said, _FIX, counted(opposite, n) | {"p": p})


def redundancies(votes: Mapping[str, Column], bounds: Bounds = BOUNDS) -> list[Finding]:
    """Principles that cast the same votes: one warning a group.

    Two are alike where they agree on a share of `redundant` or more of the pairs both decide, the lower
    end of its interval exceeds `redundant_low`, and P(A) correlates by `correlation` or more. Groups are
    the connected sets: each member is like another, and the least alike two are named in figures.
    """
    rows = between(votes, bounds)
    group = {name: name for name in votes}
    for row in rows:
        if _alike(row, bounds):
            kept, gone = group[row.first], group[row.second]
            group = {name: kept if root == gone else root for name, root in group.items()}
    members = {root: [name for name in votes if group[name] == root] for root in votes}
    return [
        _redundancy(names, [row for row in rows if row.first in names and row.second in names])
        for names in members.values()
        if len(names) > 1
    ]


def _between(a: str, b: str, first: Column, second: Column, bounds: Bounds) -> Between:
    both = [(x, y) for x, y in zip(first, second, strict=True) if x is not None and y is not None]
    clear, leaning = (
        [s for x, y in both if (s := preferred(x, margin) * preferred(y, margin))]
        for margin in (bounds.margin, bounds.lean)
    )
    columns = [sum(x) / 2 for x, _ in both], [sum(y) / 2 for _, y in both]
    return Between(
        first=a,
        second=b,
        n=len(clear),
        opposite=clear.count(-1),
        shared=len(both),
        correlation=correlation(*columns),
        leaning=len(leaning),
        apart=leaning.count(-1),
    )


def _alike(row: Between, bounds: Bounds) -> bool:
    same = row.n - row.opposite
    if not row.n or row.correlation is None or row.correlation < bounds.correlation:
        return False
    return same >= bounds.redundant * row.n and wilson(same, row.n)[0] > bounds.redundant_low


def _contradicting(
    votes: Mapping[str, Column], reworded: Mapping[str, Column], bounds: Bounds
) -> dict[tuple[str, str], Finding]:
    own = between(votes, bounds)
    found = {row.names: _by_sides(row, p) for row, p in _sides_tested(own, bounds)}
    for row, p in _correlations_tested(own, bounds):
        found.setdefault(row.names, _by_correlation(row, p, ""))
    if not reworded:
        return found
    mute = {row.names for row in own if row.correlation is None or abs(row.correlation) < bounds.mute}
    again = [row for row in between(_said(votes, reworded), bounds) if row.names in mute]
    for row, p in _correlations_tested(again, bounds):
        found.setdefault(row.names, _by_correlation(row, p, ", said in other words,"))
    return found


def _said(votes: Mapping[str, Column], reworded: Mapping[str, Column]) -> dict[str, Column]:
    """The votes under other words, and under its own where a principle has no others."""
    return {name: reworded.get(name, column) for name, column in votes.items()}


def _sides_tested(rows: Sequence[Between], bounds: Bounds) -> list[tuple[Between, float]]:
    """The rows that are opposite on most decided pairs, with their adjusted p."""
    tested = [row for row in rows if row.n >= bounds.least]
    p_values = holm([mcnemar_exact(row.opposite, row.n - row.opposite) for row in tested])
    return [
        (row, p)
        for row, p in zip(tested, p_values, strict=True)
        if row.opposite >= bounds.contradiction * row.n and p < bounds.level
    ]


def _correlations_tested(rows: Sequence[Between], bounds: Bounds) -> list[tuple[Between, float]]:
    """The rows whose P(A) correlate so negatively that chance is no reason, with their adjusted p."""
    tested = [row for row in rows if row.shared >= bounds.shared and row.correlation is not None]
    p_values = holm([_below(row, -bounds.correlation_low) for row in tested])
    return [
        (row, p)
        for row, p in zip(tested, p_values, strict=True)
        if (row.correlation or 0.0) <= -bounds.correlation and p < bounds.level and _mostly_apart(row, bounds)
    ]


def _mostly_apart(row: Between, bounds: Bounds) -> bool:
    """Whether a correlation is the work of many pairs and not of a few far out."""
    enough = row.leaning >= bounds.least and row.apart >= bounds.contradiction * row.leaning
    return enough and mcnemar_exact(row.apart, row.leaning - row.apart) < bounds.level


def _below(row: Between, bound: float) -> float:
    """One-sided p of a correlation against `bound` or above, by Fisher's z (Fisher 1921)."""
    r = max(-1 + 1e-12, min(1 - 1e-12, row.correlation or 0.0))
    return NormalDist().cdf((math.atanh(r) - math.atanh(bound)) * math.sqrt(row.shared - 3))


def _by_sides(row: Between, p: float) -> Finding:
    said = (
        f"{row.first} and {row.second} pull opposite ways on "
        f"{share(row.opposite, row.n, 'pairs that both decide')} Holm-adjusted p {p:.2g}"
    )
    return finding("warning", "contradiction", row.first, said, _FIX, _pair_figure(row, p))


def _by_correlation(row: Between, p: float, how: str) -> Finding:
    figure = correlation_of(row.correlation or 0.0, row.shared)
    said = (
        f"{row.first} and {row.second}{how} pull opposite ways: their P(A) correlate at {figure.text(2)}, "
        f"Holm-adjusted p {p:.2g}"
    )
    return finding("warning", "contradiction", row.first, said, _FIX, _pair_figure(row, p))


_FIX = "say in one of them when it yields to the other, or remove one"


def _pair_figure(row: Between, p: float) -> dict[str, float]:
    more = {"p": p, "shared": float(row.shared)}
    return counted(row.opposite, row.n) | more | {"correlation": row.correlation or 0.0}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _redundancy(names: Sequence[str], rows: Sequence[Between]) -> Finding:
    weakest = min(rows, key=lambda row: (1 - row.opposite / row.n if row.n else 0.0, row.n))
    same = weakest.n - weakest.opposite
    least = min(row.correlation if row.correlation is not None else 0.0 for row in rows)
    said = (
        f"{', '.join(names[:-1])} and {names[-1]} cast the same votes: the least alike two agree on "
        f"{share(same, weakest.n, 'pairs that both decide')} lowest correlation {least:.2f}"
    )
    fix = f"keep the clearest, or let their weights add up to one's: together they count {len(names)} times"
    figure = counted(same, weakest.n) | {"correlation": least, "size": len(names)}
    return finding("warning", "redundant", names[0], said, fix, figure)
