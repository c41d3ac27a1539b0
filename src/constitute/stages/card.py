"""The label card: what a set of preference labels looks like before anybody trains on it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from constitute.stats import wilson
from constitute.types import LabelledPair, Record


class LabelCard(Record):
    """Figures over labelled pairs; those over none are None.

    `ordered` votes were taken in both orders; `flips` of them prefer different answers in each, and
    `flip_low` and `flip_high` are the 95 % Wilson interval of their share. `p_first` is the mean probability
    of whatever is shown first (0.5 without order bias), `p_a` the mean P(A), `margin` the mean of
    |2 P(A) - 1|, `mass` the mean probability of the two labels together. `censored` votes have an option
    whose probability was bounded, not measured.
    """

    pairs: int
    abstained: int
    failed: int
    votes: int
    ordered: int
    censored: int
    flips: int
    flip_rate: float | None
    flip_low: float
    flip_high: float
    p_first: float | None
    p_a: float | None
    margin: float | None
    mass: float | None
    least_mass: float | None


def label_card(labelled: Iterable[LabelledPair], abstained: int, failed: int) -> LabelCard:
    """The card of labelled pairs, read once."""
    pairs = votes = censored = flips = 0
    p_a: list[float] = []
    margin: list[float] = []
    p_first: list[float] = []
    mass: list[float] = []
    least = math.inf
    for row in labelled:
        pairs += 1
        p_a.append(row.label.p_a)
        margin.append(abs(2 * row.label.p_a - 1))
        least = min(least, math.inf if row.label.mass is None else row.label.mass)
        flips += row.label.flips
        for vote in row.label.votes:
            votes += 1
            censored += vote.censored
            if vote.p_first is not None:
                p_first.append(vote.p_first)
            if vote.mass is not None:
                mass.append(vote.mass)
    ordered = len(p_first)
    low, high = wilson(flips, ordered)
    return LabelCard(
        pairs=pairs,
        abstained=abstained,
        failed=failed,
        votes=votes,
        ordered=ordered,
        censored=censored,
        flips=flips,
        flip_rate=_mean([flips], ordered),
        flip_low=low,
        flip_high=high,
        p_first=_mean(p_first, ordered),
        p_a=_mean(p_a, pairs),
        margin=_mean(margin, pairs),
        mass=_mean(mass, len(mass)),
        least_mass=least if math.isfinite(least) else None,
    )


def _mean(values: Iterable[float], n: int) -> float | None:
    return math.fsum(values) / n if n else None
