"""How far engine and trainer may lie apart after a push of weights, and whether the engine took the push."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from constitute.stats import mean, quantile


@dataclass(frozen=True)
class Gap:
    """Absolute differences of log-probabilities between engine and trainer, in nats a token."""

    mean: float
    p95: float
    max: float


@dataclass(frozen=True)
class GapLimits:
    """What stops a run, for an engine of one dtype: a gap, and the changes it makes without new weights.

    `noise` is the root mean square of an engine's change over a push that the new weights do not explain.
    """

    gap: Gap
    noise: float


# Measured over pushes at the default rate, the trainer's weights rounded as the engine's (about 250 tokens),
# on the embedded model and on SmolLM2-135M: the larger mean, p95, max and noise, and how many times the gap
# is allowed.
#   float32, vLLM on a CPU: 6.3e-6, 2.1e-5, 4.1e-5 and 1.3e-5 (2e-6 embedded); 16, 48 and 240 times.
#   float16, transformers on a CPU: 8e-4, 0.004, 0.017 and 0.002 (embedded alone). Some 120 times, for where
#       weights cannot be rounded the gap was 0.011, 0.05 and 0.37.
#   bfloat16, transformers on a CPU: 0.038, 0.12, 0.65 and 0.065 (0.018 embedded); 5, 8 and 15 times. GPUs are
#       reported to show means of 0.01 to 0.02.
# The noise is the least that is assumed; where an engine shows more, that is taken.
LIMITS = {
    "float32": GapLimits(Gap(1e-4, 1e-3, 1e-2), noise=2e-6),
    "float16": GapLimits(Gap(0.1, 0.5, 4.0), noise=2e-3),
    "bfloat16": GapLimits(Gap(0.2, 1.0, 10.0), noise=2e-2),
}
# Share of a limit that is worth a warning.
WARNS = 0.25
# An engine follows the trainer's change with slope 1 (measured 0.94 to 1.12 in float16, 0.64 to 1.31 in
# bfloat16) and with slope 0 where it kept its weights; it has not followed where even 4 standard errors
# above its slope are below a half.
FOLLOWS, SURE = 0.5, 4.0
# Pushes that are judged together: evidence that is thin in one adds up.
POOLED = 20


def limits_of(dtype: str, mean_limit: float | None = None) -> GapLimits:
    """The limits of a dtype, those of bfloat16 for an unknown one; `mean_limit` scales all of the gap."""
    limits = LIMITS.get(dtype, LIMITS["bfloat16"])
    if mean_limit is None:
        return limits
    times = mean_limit / limits.gap.mean
    scaled = Gap(*(times * value for value in asdict(limits.gap).values()))
    return GapLimits(scaled, limits.noise)


def gap_of(differences: Sequence[float]) -> Gap:
    """The gap over the tokens' differences; not a number where one of them is not."""
    sizes = sorted(map(abs, differences))
    if not all(map(math.isfinite, sizes)):
        return Gap(math.nan, math.nan, math.nan)
    return Gap(mean(sizes), quantile(sizes, 0.95), sizes[-1])


def beyond(gap: Gap, limits: GapLimits, share: float = 1.0) -> str:
    """The figures of `gap` that exceed `share` of their limits, as words; empty where none does."""
    figures, most = asdict(gap), asdict(limits.gap)
    return ", ".join(
        f"{name} {value:.3g} (limit {share * most[name]:.3g})"
        for name, value in figures.items()
        if not value <= share * most[name]
    )


@dataclass(frozen=True)
class Push:
    """What a push of weights did to the log-probabilities of its probe.

    `moved` is the root mean square of the trainer's change (nats a token), `followed` the slope of the
    engine's change on it, `unexplained` the root mean square of the rest of the engine's change. They are
    None where no change was compared.
    """

    gap: Gap
    tokens: int
    dtype: str
    moved: float | None = None
    followed: float | None = None
    unexplained: float | None = None

    def figures(self) -> dict[str, Any]:
        """The push as part of a line of metrics."""
        return {
            "sync_gap": self.gap.mean,
            "sync_gap_p95": self.gap.p95,
            "sync_gap_max": self.gap.max,
            "sync_tokens": self.tokens,
            "sync_dtype": self.dtype,
            "sync_moved": self.moved,
            "sync_followed": self.followed,
            "sync_unexplained": self.unexplained,
        }


# The figures of an iteration without a push, as in a replay.
NO_PUSH: dict[str, Any] = dict.fromkeys(Push(Gap(0.0, 0.0, 0.0), 0, "").figures())


def push_in(line: Mapping[str, Any]) -> Push | None:
    """The push that a line of metrics tells of, or None."""
    if line.get("sync_gap") is None or line.get("sync_gap_max") is None:
        return None
    gap = Gap(line["sync_gap"], line["sync_gap_p95"], line["sync_gap_max"])
    change = (line[f"sync_{name}"] for name in ("moved", "followed", "unexplained"))
    return Push(gap, line["sync_tokens"], line["sync_dtype"], *change)


def change_of(trainer: Sequence[float], engine: Sequence[float]) -> tuple[float, float | None, float]:
    """(moved, followed, unexplained) of the tokens' changes in trainer and engine, as `Push` holds them.

    The slope is that of least squares through zero; None where the trainer did not change.
    """
    square = math.fsum(change * change for change in trainer)
    slope = None
    if square > 0:
        slope = math.fsum(t * e for t, e in zip(trainer, engine, strict=True)) / square
    rest = [e - (slope or 0.0) * t for t, e in zip(trainer, engine, strict=True)]
    n = len(rest)
    return math.sqrt(square / n), slope, math.sqrt(math.fsum(one * one for one in rest) / n)


def not_followed(pushes: Sequence[Push], noise: float) -> tuple[int, float, float] | None:
    """Whether the engine kept old weights over the last pushes: (pushes, slope, its standard error).

    Each number of last pushes up to `POOLED` is judged. None where the engine followed, or where what the
    trainer changed is too small to be seen: below `SURE` * noise / (`FOLLOWS` * sqrt(tokens)) nats a token.
    """
    square = product = rest = tokens = 0.0
    for count, push in enumerate(reversed(pushes[-POOLED:]), 1):
        if push.moved is None or push.followed is None or push.unexplained is None:
            continue
        weight = push.tokens * push.moved**2
        square += weight
        product += weight * push.followed
        rest += push.tokens * push.unexplained**2
        tokens += push.tokens
        if square > 0:
            slope = product / square
            error = max(noise, math.sqrt(rest / tokens)) / math.sqrt(square)
            if slope + SURE * error < FOLLOWS:
                return count, slope, error
    return None
