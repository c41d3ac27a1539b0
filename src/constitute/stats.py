"""Statistics every figure is given with: intervals, paired tests and agreement, in plain Python."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import chain, pairwise
from statistics import NormalDist
from typing import TypeVar

from constitute.types import Record

_T = TypeVar("_T")


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion, in [0, 1]; (0, 1) where nothing was counted.

    Source: E. B. Wilson, JASA 22 (1927). Raises `ValueError` unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not a proportion")
    if n == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # The limits of 0/n and n/n are exact; rounding must not move them off the edge.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; raises `ValueError` for no values."""
    if not values:
        raise ValueError("the mean of no values is not defined")
    return math.fsum(values) / len(values)


def stderr(values: Sequence[float]) -> float:
    """Standard error of the mean, from the sample variance; 0 for a single value."""
    n = len(values)
    centre = mean(values)
    if n == 1:
        return 0.0
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (n - 1) / n)


def first_best(values: Sequence[float]) -> int:
    """The place of the greatest value, of equal ones the first; raises `ValueError` for no values."""
    return max(range(len(values)), key=values.__getitem__)


def quantile(ordered: Sequence[float], q: float) -> float:
    """Quantile of sorted values with linear interpolation (Hyndman and Fan's type 7)."""
    if not ordered:
        raise ValueError("a quantile of no values is not defined")
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def bootstrap_mean(
    values: Sequence[float], rng: random.Random, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979); deterministic given `rng`."""
    n = len(values)
    if not n:
        raise ValueError("the mean of no values is not defined")
    means = sorted(math.fsum(rng.choices(values, k=n)) / n for _ in range(resamples))
    tail = (1 - level) / 2
    return quantile(means, tail), quantile(means, 1 - tail)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p of McNemar's test, from the two discordant counts; 1 where there are none.

    Under the null each discordant pair is a fair coin, so p = 2 P(X <= min), X ~ Binomial(b + c, 1/2).
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"discordant counts must not be negative: {only_first}, {only_second}")
    n, k = only_first + only_second, min(only_first, only_second)
    # Python divides integers of any size with one correct rounding, so this is exact for any n.
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given (S. Holm, 1979)."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Agreement of two raters beyond chance (J. Cohen, 1960), in [-1, 1].

    1 where both always gave the same single label. Raises `ValueError` for unequal or empty ratings.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"ratings must pair up and not be empty: {len(first)} and {len(second)}")
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    labels = set(first) | set(second)
    chance = sum(list(first).count(label) * list(second).count(label) for label in labels) / (n * n)
    return 1.0 if chance == 1.0 else (observed - chance) / (1 - chance)


def kappa_of(agree: int, n: int, chance: float) -> Estimate:
    """Cohen's kappa from `agree` of `n` cases and the agreement `chance` alone would give, below 1.

    The interval is Wilson's of the share that agrees, with chance taken as known, as in J. Cohen (1960): it
    keeps its width where every case agrees.
    """
    share = share_of(agree, n)
    if share.value is None or share.low is None or share.high is None:
        return share
    value, low, high = ((x - chance) / (1.0 - chance) for x in (share.value, share.low, share.high))
    return Estimate(value=value, low=low, high=high, n=n)


def krippendorff_alpha(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for nominal values: agreement of any number of raters, with values missing.

    `units` holds the values that each unit was given; one with fewer than two says nothing. 1 is full
    agreement, 0 what chance gives. None where no unit has two values, or all values are the same.
    alpha = 1 - (n - 1) * sum of o_ck (c != k) / sum of n_c n_k (c != k), where a unit of m values adds
    1 / (m - 1) to o_ck for each ordered pair of its values. Source: K. Krippendorff, "Computing
    Krippendorff's alpha-reliability" (2011), section C.
    """
    total: Counter[Hashable] = Counter()
    differing = 0.0
    for values in units:
        counts, m = Counter(values), len(values)
        if m < 2:
            continue
        total += counts
        differing += sum(count * (m - count) for count in counts.values()) / (m - 1)
    n = total.total()
    expected = n * n - sum(count * count for count in total.values())
    return None if expected == 0 else 1.0 - (n - 1) * differing / expected


def alpha_of(units: Sequence[Sequence[Hashable]], seed: int | str = 0, resamples: int = 1000) -> Estimate:
    """Krippendorff's alpha with its bootstrap interval over units; `n` counts units of two values or more.

    Where all units agree no resample differs, so the lower bound is that of `kappa_of`: Wilson's.
    """
    units = [values for values in units if len(values) > 1]
    value = krippendorff_alpha(units)
    if value is None:
        return Estimate(value=None, low=None, high=None, n=len(units))
    if value == 1.0:
        counts = Counter(one for values in units for one in values)
        chance = sum((count / counts.total()) ** 2 for count in counts.values())
        return kappa_of(len(units), len(units), chance)
    rng = random.Random(seed)
    drawn = sorted(
        found
        for _ in range(resamples)
        if (found := krippendorff_alpha(rng.choices(units, k=len(units)))) is not None
    )
    return Estimate(value=value, low=quantile(drawn, 0.025), high=quantile(drawn, 0.975), n=len(units))


# Bins of a calibration error, and the least number of cases in one.
_BINS, _LEAST_IN_BIN = 10, 10
# Resampled values in all: 500 resamples of 4000 cases take about a second.
_RESAMPLED = 2_000_000


def confidence_bins(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """(confidence, label) pairs, sorted already, in ten bins of one size, or as many as leave ten in each.

    Equal confidences stay together, so bins may be fewer and larger: a bin that ends within them would hold
    the labels that were sorted first.
    """
    n = len(points)
    count = max(1, min(_BINS, n // _LEAST_IN_BIN))
    ends = [0]
    for number in range(1, count):
        end = n * number // count
        while end < n and points[end][0] == points[end - 1][0]:
            end += 1
        if ends[-1] < end < n:
            ends.append(end)
    return [list(points[start:end]) for start, end in pairwise([*ends, n])]


def calibration_error(points: Sequence[tuple[float, float]], seed: int | str = 0) -> Estimate:
    """Expected calibration error of (confidence, label) in `confidence_bins` (arXiv 1706.04599, equation 3).

    sum over bins of n_bin / n * |mean label - mean confidence|. It is not below 0 and so biased upwards in
    small samples, as is its bootstrap interval.
    """
    if not points:
        return Estimate(value=None, low=None, high=None, n=0)
    rng = random.Random(seed)
    points = sorted(points)
    n = len(points)
    resamples = max(50, min(500, _RESAMPLED // n))
    drawn = sorted(
        _ece([points[place] for place in sorted(rng.choices(range(n), k=n))]) for _ in range(resamples)
    )
    return Estimate(value=_ece(points), low=quantile(drawn, 0.025), high=quantile(drawn, 0.975), n=n)


def _ece(points: Sequence[tuple[float, float]]) -> float:
    gaps = [abs(sum(y - p for p, y in part)) for part in confidence_bins(points)]
    return sum(gaps) / len(points)


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's r of paired values; None for fewer than two, or where either side does not vary."""
    if len(first) < 2:
        return None
    a, b = mean(first), mean(second)
    aa, bb = math.fsum((x - a) ** 2 for x in first), math.fsum((y - b) ** 2 for y in second)
    if min(aa, bb) < 1e-18:
        return None
    return math.fsum((x - a) * (y - b) for x, y in zip(first, second, strict=True)) / math.sqrt(aa * bb)


class Estimate(Record):
    """A share or a mean with its 95 % interval and the number of cases behind it.

    `value`, `low` and `high` are None where `n` is 0: nothing was counted, so nothing is known.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def text(self, digits: int = 3, *, percent: bool = False) -> str:
        """Such as `0.812 (0.780 to 0.844, n = 120)`; with `percent`, all three times 100."""
        if self.value is None:
            return f"- (n = {self.n})"
        if self.low is None or self.high is None:
            return f"{self.value * 100 if percent else self.value:.{digits}f} (no interval, n = {self.n})"
        value, low, high = (x * 100 if percent else x for x in (self.value, self.low, self.high))
        return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}, n = {self.n})"


def share_of(count: float, n: int) -> Estimate:
    """The share `count` / `n` with its Wilson interval."""
    if n == 0:
        return Estimate(value=None, low=None, high=None, n=0)
    low, high = wilson(count, n)
    return Estimate(value=count / n, low=low, high=high, n=n)


def weighted_of(parts: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """The mean of separate estimates by weight, with an interval made of theirs.

    The limits lie sqrt(sum (w (p - low))^2) below and sqrt(sum (w (high - p))^2) above, w summing to 1: G. Y.
    Zou, American Journal of Epidemiology 166 (2007). It keeps its width where a share is 0 or 1. Nothing is
    known where a part is not, and no interval where a part has none. `n` counts all cases.
    """
    total, n = math.fsum(weights), sum(part.n for part in parts)
    values = [part.value for part in parts if part.value is not None]
    if not parts or len(values) < len(parts):
        return Estimate(value=None, low=None, high=None, n=n)
    shares = [weight / total for weight in weights]
    value = math.fsum(w * p for w, p in zip(shares, values, strict=True))
    bounds = [
        (w * (p - part.low), w * (part.high - p))
        for w, p, part in zip(shares, values, parts, strict=True)
        if part.low is not None and part.high is not None
    ]
    if len(bounds) < len(parts):
        return Estimate(value=value, low=None, high=None, n=n)
    below, above = (math.hypot(*side) for side in zip(*bounds, strict=True))
    return Estimate(value=value, low=value - below, high=value + above, n=n)


def difference_of(first: Estimate, second: Estimate, r: float = 0.0) -> Estimate:
    """Second minus first with an interval made of theirs; `r` is the correlation of both on the same cases.

    Two shares: R. G. Newcombe, Statistics in Medicine 17 (1998), method 10 (873) for separate cases and
    method 8 (2635) for the same ones, r being phi. Means: G. Y. Zou, American Journal of Epidemiology 166
    (2007). With r = 0 on the same cases it is too wide where both go together. `n` is the smaller one.
    """
    n = min(first.n, second.n)
    a, a_low, a_high = first.value, first.low, first.high
    b, b_low, b_high = second.value, second.low, second.high
    if a is None or a_low is None or a_high is None or b is None or b_low is None or b_high is None:
        return Estimate(value=None, low=None, high=None, n=n)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * r * one * other + other * other))

    low, high = b - a - reach(b - b_low, a_high - a), b - a + reach(b_high - b, a - a_low)
    return Estimate(value=b - a, low=low, high=high, n=n)


def correlation_of(r: float, n: int, level: float = 0.95) -> Estimate:
    """A correlation r of n points with its interval by Fisher's z (Fisher 1921); -1 to 1 below 4 points."""
    if n < 4:
        return Estimate(value=r, low=-1.0, high=1.0, n=n)
    centre = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, r)))
    half = NormalDist().inv_cdf((1 + level) / 2) / math.sqrt(n - 3)
    return Estimate(value=r, low=math.tanh(centre - half), high=math.tanh(centre + half), n=n)


def mean_of(values: Sequence[float], seed: int | str = 0, resamples: int = 2000) -> Estimate:
    """The mean with its bootstrap interval, the same for the same values and `seed`."""
    if not values:
        return Estimate(value=None, low=None, high=None, n=0)
    if len(set(values)) == 1:
        # Every resample is the same: that shows nothing of how far the mean may be off.
        return Estimate(value=values[0], low=None, high=None, n=len(values))
    low, high = bootstrap_mean(values, random.Random(seed), resamples)
    return Estimate(value=mean(values), low=low, high=high, n=len(values))


def bootstrap_of(
    groups: Sequence[Sequence[_T]],
    statistic: Callable[[Sequence[_T]], float | None],
    seed: int | str = 0,
    resamples: int = 2000,
) -> Estimate:
    """A statistic of all cases with the percentile interval of a bootstrap that draws whole groups.

    Cases of a group may depend on one another. Resamples on which the statistic is None are left out; where
    it is None on all cases, nothing is known, and of a single group the interval is not.
    """
    cases = list(chain.from_iterable(groups))
    value = statistic(cases)
    if value is None:
        return Estimate(value=None, low=None, high=None, n=0)
    if len(groups) < 2:
        return Estimate(value=value, low=None, high=None, n=len(cases))
    rng = random.Random(seed)
    drawn = (chain.from_iterable(rng.choices(groups, k=len(groups))) for _ in range(resamples))
    found = (statistic(list(sample)) for sample in drawn)
    ordered = sorted(each for each in found if each is not None)
    if not ordered:
        return Estimate(value=value, low=None, high=None, n=len(cases))
    return Estimate(value=value, low=quantile(ordered, 0.025), high=quantile(ordered, 0.975), n=len(cases))
