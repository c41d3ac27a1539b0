"""Over-optimisation: gold rewards of best-of-n and of a PPO run, and where to stop (arXiv 2210.10760)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from statistics import NormalDist
from typing import NamedTuple

from constitute.stats import mean, quantile, stderr
from constitute.train.common.best_of import best_of_n_kl, rank_weights
from constitute.types import Record

RESAMPLES = 1000
_Z = NormalDist().inv_cdf(0.975)


class Scored(NamedTuple):
    """Proxy and gold reward of one response; one that is not `eligible` comes last, whatever its proxy."""

    proxy: float
    gold: float
    eligible: bool = True


class Measure(Record):
    """A mean with its standard error and 95 % interval."""

    value: float
    stderr: float
    low: float
    high: float


class Point(Record):
    """Rewards of one policy; `at` is n of best-of-n or the updates done, `kl` nats from the reference.

    `n` counts the responses (PPO) or prompts (best-of-n) behind it.
    """

    at: int
    kl: float
    proxy: Measure
    gold: Measure | None
    n: int


class Advice(Record):
    """What to ship: the point whose gold has the highest lower bound, and whether the gold falls after it.

    `falls` is None where the last point is the best or no worse than chance allows.
    """

    best: Point
    compared: int
    falls: tuple[Point, Point] | None


@dataclass(frozen=True)
class Observation:
    """One batch of a PPO run, of the policy after `updates` iterations; None for a gold not measured."""

    updates: int
    kl: float
    proxy: float
    proxy_stderr: float
    gold: float | None
    gold_stderr: float
    n: int


def normal(value: float, error: float) -> Measure:
    """A mean with its normal 95 % interval."""
    return Measure(value=value, stderr=error, low=value - _Z * error, high=value + _Z * error)


def best_of_n_rewards(samples: Sequence[Scored], n: int) -> tuple[float, float]:
    """Proxy and gold expected of the highest-proxy response among n of these, drawn without replacement.

    Unbiased for best-of-n of the policy that drew them (arXiv 2112.09332, appendix I, as in 2210.10760):
    the sample of rank i from below is the best of C(i - 1, n - 1) of the C(N, n) subsets. Of tied samples
    each is as likely to be taken. Raises `ValueError` unless 1 <= n <= N.
    """
    ordered = _ties_averaged(samples)
    weights = rank_weights(len(samples), n)
    return (
        math.fsum(weight * proxy for weight, (proxy, _) in zip(weights, ordered, strict=True)),
        math.fsum(weight * gold for weight, (_, gold) in zip(weights, ordered, strict=True)),
    )


def _ties_averaged(samples: Iterable[Scored]) -> list[tuple[float, float]]:
    """Proxy and gold in the order of choice, the last chosen first; tied samples share their gold's mean."""
    ordered: list[tuple[float, float]] = []
    by_choice = itemgetter(2, 0)
    for (_, proxy), tied in groupby(sorted(samples, key=by_choice), key=by_choice):
        golds = [one.gold for one in tied]
        ordered += [(proxy, mean(golds))] * len(golds)
    return ordered


def best_of_n_points(
    prompts: Sequence[Sequence[Scored]], sizes: Sequence[int], rng: random.Random
) -> tuple[list[Point], list[list[float]]]:
    """Mean over prompts for each n, with percentile bootstrap intervals over prompts.

    Also returns the gold rewards of each bootstrap resample, one a size, for `fit_gold`.
    """
    count = len(sizes)
    pairs = [[best_of_n_rewards(samples, n) for n in sizes] for samples in prompts]
    rows = [[proxy for proxy, _ in row] + [gold for _, gold in row] for row in pairs]
    means = [mean(column) for column in zip(*rows, strict=True)]
    resampled = []
    for _ in range(RESAMPLES):
        drawn = rng.choices(rows, k=len(rows))
        resampled.append([math.fsum(column) / len(rows) for column in zip(*drawn, strict=True)])
    measures = [
        bootstrapped(value, column) for value, column in zip(means, zip(*resampled, strict=True), strict=True)
    ]
    points = [
        Point(
            at=n,
            kl=best_of_n_kl(n),
            proxy=measures[place],
            gold=measures[count + place],
            n=len(prompts),
        )
        for place, n in enumerate(sizes)
    ]
    return points, [row[count:] for row in resampled]


def bootstrapped(value: float, replicates: Sequence[float]) -> Measure:
    """A value with the spread and the percentile interval of its replicates."""
    ordered = sorted(replicates)
    spread = stderr(ordered) * math.sqrt(len(ordered))
    return Measure(value=value, stderr=spread, low=quantile(ordered, 0.025), high=quantile(ordered, 0.975))


def pooled(observations: Sequence[Observation], marks: Sequence[int]) -> list[Point]:
    """One point a mark (a number of updates): the mean over the batches that are nearest to it.

    Batches on both sides of a checkpoint make its point, so that a trend cancels; the start, mark 0, is its
    own batch alone, since a policy moves fastest there. The error is that of the batches or of the scatter
    between them, whichever is larger. Marks without a batch are left out.
    """
    groups: dict[int, list[Observation]] = {}
    later = [mark for mark in marks if mark > 0]
    for one in observations:
        if one.updates == 0 or not later:
            groups.setdefault(0, []).append(one)
        else:
            groups.setdefault(min(later, key=lambda mark: abs(mark - one.updates)), []).append(one)
    return [_pool(mark, groups[mark]) for mark in sorted(groups) if mark in marks]


def _pool(mark: int, group: Sequence[Observation]) -> Point:
    total = sum(one.n for one in group)

    def measure(value: Callable[[Observation], float], error: Callable[[Observation], float]) -> Measure:
        centre = sum(value(one) * one.n for one in group) / total
        known = math.sqrt(sum((error(one) * one.n) ** 2 for one in group)) / total
        apart = math.sqrt(sum(((value(one) - centre) * one.n) ** 2 for one in group)) / total
        # Where the policy moves fast, its batches differ by more than their sampling.
        return normal(centre, max(known, apart * math.sqrt(len(group) / max(len(group) - 1, 1))))

    golds = [one.gold for one in group]
    gold = None
    if None not in golds:
        gold = measure(lambda one: one.gold or 0.0, lambda one: one.gold_stderr)
    return Point(
        at=mark,
        kl=sum(one.kl * one.n for one in group) / total,
        proxy=measure(lambda one: one.proxy, lambda one: one.proxy_stderr),
        gold=gold,
        n=total,
    )


def advise(points: Sequence[Point]) -> Advice | None:
    """The point with the highest lower bound of the gold, None where no point has a gold.

    The gold falls after it if the last point's is lower and its proxy higher, each beyond chance: two-sided
    5 % divided by the number of points, since the best of them was picked (Bonferroni).
    """
    known = [(point, point.gold) for point in points if point.gold is not None]
    if not known:
        return None
    best, best_gold = max(known, key=lambda pair: pair[1].low)
    last, last_gold = known[-1]
    sure = NormalDist().inv_cdf(1 - 0.025 / len(known))
    fell = _rise(best_gold, last_gold) < -sure and _rise(best.proxy, last.proxy) > sure
    return Advice(best=best, compared=len(known), falls=(best, last) if fell else None)


def _rise(before: Measure, after: Measure) -> float:
    """The difference in its standard errors."""
    error = math.hypot(before.stderr, after.stderr)
    gain = after.value - before.value
    return gain / error if error > 0 else math.copysign(math.inf, gain) if gain else 0.0
