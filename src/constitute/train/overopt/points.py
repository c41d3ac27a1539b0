"""Proxy and gold rewards of best-of-n and of a PPO run, with intervals, and which policy to ship."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from statistics import NormalDist
from typing import NamedTuple

from constitute.stats import Estimate, mean, quantile, stderr
from constitute.train.best_of_n.choice import best_of_n_kl, rank_weights
from constitute.train.common.metrics import FEWEST
from constitute.types import Record

RESAMPLES = 1000
# Nats a response: nearer than this, about 1 response in 45 can differ at most (Pinsker's inequality).
KL_STILL = 0.001
_Z = NormalDist().inv_cdf(0.975)


class Scored(NamedTuple):
    """Proxy and gold reward of one response; one that is not `eligible` comes last, whatever its proxy."""

    proxy: float
    gold: float
    eligible: bool = True


class Measure(Estimate):
    """An estimate from at least one case, with its standard error."""

    value: float
    low: float
    high: float
    stderr: float


class Point(Record):
    """Rewards of one policy; `at` is n of best-of-n or the updates done, `kl` nats from the reference.

    The `n` of an estimate counts responses (PPO) or prompts (best-of-n).
    """

    at: int
    kl: float
    proxy: Measure
    gold: Measure | None


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


def normal(value: float, error: float, n: int) -> Measure:
    """A mean of `n` cases with its normal 95 % interval."""
    return Measure(value=value, stderr=error, low=value - _Z * error, high=value + _Z * error, n=n)


def bootstrapped(value: float, replicates: Sequence[float], n: int) -> Measure:
    """A value from `n` cases with the spread and the percentile interval of its bootstrap replicates."""
    ordered = sorted(replicates)
    spread = stderr(ordered) * math.sqrt(len(ordered))
    low, high = quantile(ordered, 0.025), quantile(ordered, 0.975)
    return Measure(value=value, stderr=spread, low=low, high=high, n=n)


def best_of_n_rewards(samples: Sequence[Scored], n: int) -> tuple[float, float]:
    """Proxy and gold expected of the highest-proxy response among n of these, drawn without replacement.

    Each of several tied samples is as likely to be taken. Raises `ValueError` unless 1 <= n <= samples.
    """
    weights, ordered = rank_weights(len(samples), n), _ties_averaged(samples)
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
    pairs = [[best_of_n_rewards(samples, n) for n in sizes] for samples in prompts]
    rows = [[proxy for proxy, _ in row] + [gold for _, gold in row] for row in pairs]
    resampled = []
    for _ in range(RESAMPLES):
        drawn = rng.choices(rows, k=len(rows))
        resampled.append([math.fsum(column) / len(rows) for column in zip(*drawn, strict=True)])
    columns = zip(zip(*rows, strict=True), zip(*resampled, strict=True), strict=True)
    measures = [bootstrapped(mean(column), replicates, len(rows)) for column, replicates in columns]
    both = zip(sizes, measures[: len(sizes)], measures[len(sizes) :], strict=True)
    points = [Point(at=n, kl=best_of_n_kl(n), proxy=proxy, gold=gold) for n, proxy, gold in both]
    return points, [row[len(sizes) :] for row in resampled]


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
        return normal(centre, max(known, apart * math.sqrt(len(group) / max(len(group) - 1, 1))), total)

    gold = None
    if all(one.gold is not None for one in group):
        gold = measure(lambda one: one.gold or 0.0, lambda one: one.gold_stderr)
    return Point(
        at=mark,
        kl=sum(one.kl * one.n for one in group) / total,
        proxy=measure(lambda one: one.proxy, lambda one: one.proxy_stderr),
        gold=gold,
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


def doubts(points: Sequence[Point], per_prompt: int, gold: str) -> list[tuple[str, str]]:
    """Reasons why these points of PPO do not say which policy is best, each with the setting to raise.

    `per_prompt` responses share a prompt. A gold differs from the first point's at two-sided 5 % divided by
    the number of points it is compared with (Bonferroni).
    """
    known = [(point, point.gold) for point in points if point.gold is not None]
    if not known:
        return []
    (first, first_gold), later = known[0], known[1:]
    found = []
    if not later:
        found.append(("it has only one point", "iterations"))
    elif all(abs(point.kl - first.kl) < KL_STILL for point, _ in later):
        kls = [point.kl for point, _ in known]
        span = f"the KL is {min(kls):.3f} to {max(kls):.3f} at its {len(known)} points"
        found.append((f"the policy has not moved, {span}", "learning_rate"))
    fewest = min(one.n for _, one in known)
    prompts = fewest // per_prompt
    if prompts < FEWEST:
        count = f"{fewest} answers to {prompts} prompts" if per_prompt > 1 else f"{fewest} answers"
        few = f"a point has as few as {count}, and below {FEWEST} prompts a difference may be chance"
        found.append((few, "batch_size"))
    sure = NormalDist().inv_cdf(1 - 0.025 / max(len(later), 1))
    if later and not any(abs(_rise(first_gold, one)) > sure for _, one in later):
        alike = f"at no point does {gold} differ from the first one's, {first_gold.text()}, beyond chance"
        found.append((alike, "iterations"))
    return found


def _rise(before: Measure, after: Measure) -> float:
    """The difference in its standard errors."""
    error = math.hypot(before.stderr, after.stderr)
    gain = after.value - before.value
    return gain / error if error > 0 else math.copysign(math.inf, gain) if gain else 0.0
