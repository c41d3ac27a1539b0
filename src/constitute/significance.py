"""Is a difference between two policies real, is it none, and what could a set of items show at all?

Values are paired: one per item, second policy minus first. Items that share a context, such as several
questions about one story, form a cluster and are drawn together: taken one by one they would count as more
than they are.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from statistics import NormalDist

from constitute.stats import Estimate, mean, quantile
from constitute.types import Record

# Clusters up to which every assignment of signs is tried: 2**14 of them.
_EXACT = 14


def cluster_sums(values: Sequence[float], clusters: Sequence[Hashable]) -> list[tuple[float, int]]:
    """(sum, items) of each cluster, in order of appearance. Raises `ValueError` where they do not pair up."""
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values and {len(clusters)} clusters do not pair up")
    sums: dict[Hashable, tuple[float, int]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        total, count = sums.get(cluster, (0.0, 0))
        sums[cluster] = total + value, count + 1
    return list(sums.values())


def clustered_mean_of(
    values: Sequence[float], clusters: Sequence[Hashable], seed: int | str = 0, resamples: int = 2000
) -> Estimate:
    """The mean over items with a bootstrap interval that draws whole clusters.

    `n` counts items. A single cluster says nothing about others, so it has no interval. Source: Davison and
    Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8.
    """
    if not values:
        return Estimate(value=None, low=None, high=None, n=0)
    parts = cluster_sums(values, clusters)
    if len(parts) == 1:
        return Estimate(value=mean(values), low=None, high=None, n=len(values))
    if len({total / count for total, count in parts}) == 1:
        # Every resample is the same: that shows nothing of how far the mean may be off.
        return Estimate(value=mean(values), low=None, high=None, n=len(values))
    rng = random.Random(seed)
    drawn: list[float] = []
    for _ in range(resamples):
        chosen = rng.choices(parts, k=len(parts))
        drawn.append(math.fsum(total for total, _ in chosen) / sum(count for _, count in chosen))
    drawn.sort()
    return Estimate(
        value=mean(values), low=quantile(drawn, 0.025), high=quantile(drawn, 0.975), n=len(values)
    )


def sign_flip_p(
    values: Sequence[float], clusters: Sequence[Hashable], seed: int | str = 0, draws: int = 20_000
) -> float:
    """Two-sided p of no difference: each cluster's sum is as likely with the other sign (Fisher 1935).

    Exact up to 14 clusters that differ, else by `draws` random assignments, (hits + 1) / (draws + 1). Without
    clusters and with differences of -1, 0 and 1, it is McNemar's exact test.
    """
    sums = [total for total, _ in cluster_sums(values, clusters) if total]
    if not sums:
        return 1.0
    seen = abs(math.fsum(sums)) - 1e-9 * math.fsum(map(abs, sums))
    if len(sums) <= _EXACT:
        # One sign can stay: the opposite of every assignment is as extreme.
        count = 2 ** (len(sums) - 1)
        hits = sum(abs(_signed(sums, bits)) >= seen for bits in range(count))
        return hits / count
    rng = random.Random(seed)
    hits = sum(abs(_signed(sums, rng.getrandbits(len(sums)))) >= seen for _ in range(draws))
    return (hits + 1) / (draws + 1)


def _signed(sums: Sequence[float], bits: int) -> float:
    return math.fsum(-total if bits >> at & 1 else total for at, total in enumerate(sums))


class Equivalence(Record):
    """Two one-sided tests that a mean difference lies within `margin` of 0.

    `p` is the larger of the two; below 0.05 the claim "no change beyond the margin" holds. `low` and `high`
    are the 90 % interval that lies within the margin exactly where it does.
    """

    margin: float
    p: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        return self.p < 0.05


def equivalence(values: Sequence[float], clusters: Sequence[Hashable], margin: float) -> Equivalence | None:
    """Test that the mean of `values` is within `margin` of 0 (Schuirmann 1987), by Student's t over clusters.

    The standard error is that of a mean of clusters, weighted by their items; without clusters it is the
    usual one. None for fewer than two clusters. Where no value differs at all, p is bounded as if one did.
    """
    if margin <= 0:
        raise ValueError(f"the margin must be above 0, not {margin}")
    parts = cluster_sums(values, clusters)
    groups = len(parts)
    if groups < 2:
        return None
    from scipy.stats import t as student

    centre, n = mean(values), len(values)
    residuals = math.fsum((total - count * centre) ** 2 for total, count in parts)
    error = math.sqrt(residuals * groups / (groups - 1)) / n
    if error == 0.0:
        # No item differs, which says as much as one more item of each sign would.
        error = math.sqrt(2 * (groups + 2) / (groups + 1)) / (n + 2)
    p = max(
        student.sf((centre + margin) / error, groups - 1), student.cdf((centre - margin) / error, groups - 1)
    )
    half = float(student.ppf(0.95, groups - 1)) * error
    return Equivalence(margin=margin, p=float(p), low=centre - half, high=centre + half)


def minimum_detectable(n: int, differing: float, power: float = 0.8, level: float = 0.05) -> float | None:
    """The smallest change in share that `n` paired items show with this `power`; None where there is none.

    `differing` is the share of items on which exactly one of the two matches; the change cannot exceed it.
    n = (z_level sqrt(differing) + z_power sqrt(differing - change^2))^2 / change^2: R. J. Connor, Biometrics
    43 (1987). `n` counts clusters where items share contexts.
    """
    if not 0 < differing <= 1:
        raise ValueError(f"the share of items that differ must be in (0, 1], not {differing}")
    if items_needed(differing, differing, power, level) > n:
        return None
    low, high = 0.0, differing
    for _ in range(60):
        middle = (low + high) / 2
        if items_needed(middle, differing, power, level) > n:
            low = middle
        else:
            high = middle
    return high


def items_needed(change: float, differing: float, power: float = 0.8, level: float = 0.05) -> float:
    """Paired items that show a `change` in share, as in `minimum_detectable`; infinite for no change."""
    if change <= 0:
        return math.inf
    if change > differing:
        raise ValueError(f"a change of {change} cannot come of {differing} of the items")
    z_level, z_power = (NormalDist().inv_cdf(q) for q in (1 - level / 2, power))
    spread = math.sqrt(max(0.0, differing - change * change))
    return ((z_level * math.sqrt(differing) + z_power * spread) / change) ** 2
