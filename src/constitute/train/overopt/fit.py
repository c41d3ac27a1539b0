"""The curve of a gold reward over the distance from the reference, fitted (arXiv 2210.10760, section 3).

Deviates from the paper in fitting the reward at KL 0 along with alpha and beta, where the paper subtracts
it: it is measured with noise like every other point.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Literal

from constitute.stats import quantile
from constitute.train.overopt.points import RESAMPLES, Measure, bootstrapped
from constitute.types import Record

Method = Literal["best-of-n", "ppo"]

# exp of more than this is past any KL that can be measured.
_LARGEST_EXPONENT = 50.0


class Fit(Record):
    """Gold reward as offset + d (alpha - beta d), or offset + d (alpha - beta ln d) for PPO; d = sqrt(KL).

    `peak_kl` is where the fitted curve is highest, None where it has no peak; an end of its interval is None
    where it is not bounded. `within` says whether the peak lies within the KL that was measured. `misfit` is
    the root mean square residual in standard errors: well above 1, the points do not follow such a curve, and
    its peak means nothing. The `n` of a coefficient counts the points.
    """

    method: Method
    offset: Measure
    alpha: Measure
    beta: Measure
    peak_kl: float | None
    peak_low: float | None
    peak_high: float | None
    within: bool
    misfit: float


def gold_at(method: Method, offset: float, alpha: float, beta: float, d: float) -> float:
    """The fitted gold reward at d = sqrt(KL) (arXiv 2210.10760, section 3)."""
    return offset + alpha * d - beta * _bend(method, d)


def _bend(method: Method, d: float) -> float:
    if method == "best-of-n":
        return d * d
    return d * math.log(d) if d > 0 else 0.0


def fit_gold(
    method: Method,
    kls: Sequence[float],
    golds: Sequence[float],
    errors: Sequence[float],
    rng: random.Random,
    resampled: Sequence[Sequence[float]] = (),
) -> Fit | str:
    """Least squares weighted by 1/errors^2, or a sentence where the points are too few.

    `resampled` are bootstrap replicates of `golds`, for points that share samples; without them the points
    are independent and drawn anew from `errors`, widened where the points scatter more than these say.
    Needs three distinct KL above 0, and a fourth or one at 0. A negative estimate of a KL counts as 0.
    """
    ds = [math.sqrt(max(kl, 0.0)) for kl in kls]
    above = len({d for d in ds if d > 0})
    if above < 3 or len(set(ds)) < 4:
        return (
            "no curve fitted: it takes four distinct KL, three of them above 0, and "
            f"{len(set(ds))} were measured"
        )
    weights = _weights(errors)
    design = [[1.0, d, -_bend(method, d)] for d in ds]
    solved = _least_squares(design, weights, [golds])
    if not solved:
        return "no curve fitted: the measured KL lie too close together"
    ((offset, alpha, beta),) = solved
    gaps = [gold - gold_at(method, offset, alpha, beta, d) for d, gold in zip(ds, golds, strict=True)]
    excess = sum(weight * gap**2 for weight, gap in zip(weights, gaps, strict=True)) / (len(ds) - 3)
    if not resampled:
        # Errors for which the mean squared residual is at most 1 (R. Birge, Physical Review 40, 1932).
        spreads = [math.sqrt(max(excess, 1.0) / weight) for weight in weights]
        resampled = [
            [rng.gauss(gold, s) for gold, s in zip(golds, spreads, strict=True)] for _ in range(RESAMPLES)
        ]
    found = _least_squares(design, weights, resampled)
    peaks = sorted(_peak(method, a, b) for _, a, b in found)
    peak = _peak(method, alpha, beta)
    offsets, alphas, betas = zip(*found, strict=True)
    return Fit(
        method=method,
        offset=bootstrapped(offset, offsets, len(ds)),
        alpha=bootstrapped(alpha, alphas, len(ds)),
        beta=bootstrapped(beta, betas, len(ds)),
        peak_kl=_finite(peak),
        peak_low=_finite(quantile(peaks, 0.025)),
        peak_high=_finite(peaks[math.ceil(0.975 * len(peaks)) - 1]),
        within=peak <= max(kls),
        misfit=math.sqrt(excess),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _peak(method: Method, alpha: float, beta: float) -> float:
    """KL where the fitted gold is highest: 0 where it only falls, infinite where it never turns."""
    if method == "best-of-n":
        if beta > 0:
            return (max(alpha, 0.0) / (2 * beta)) ** 2
        return math.inf if alpha > 0 else 0.0
    if beta <= 0:
        return math.inf
    exponent = 2 * (alpha / beta - 1)
    return math.exp(exponent) if exponent < _LARGEST_EXPONENT else math.inf


def _weights(errors: Sequence[float]) -> list[float]:
    """1/error^2; an error of 0, of a batch without any spread, counts as the smallest of the others."""
    known = [error for error in errors if error > 0]
    floor = min(known, default=1.0)
    return [1.0 / max(error, floor) ** 2 for error in errors]


def _least_squares(
    rows: Sequence[Sequence[float]], weights: Sequence[float], values: Sequence[Sequence[float]]
) -> list[tuple[float, float, float]]:
    """Weighted least-squares coefficients for each list of values; none where `rows` leave them open."""
    import numpy as np

    roots = np.sqrt(np.asarray(weights))[:, None]
    design = np.asarray(rows) * roots
    # Columns of equal length keep the rank apart from the units.
    scales = np.linalg.norm(design, axis=0)
    if not scales.all():
        return []
    found, _, rank, _ = np.linalg.lstsq(design / scales, np.asarray(values).T * roots, rcond=1e-5)
    if rank < len(scales):
        return []
    return [(float(a), float(b), float(c)) for a, b, c in (found / scales[:, None]).T]
