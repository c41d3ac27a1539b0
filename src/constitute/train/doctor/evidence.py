"""What the doctor's checks look at, what they find, and how a change is told from noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field

from constitute.config.ppo import PPOConfig
from constitute.stats import mean
from constitute.types import Record

Line = Mapping[str, Any]
Severity = Literal["stop", "warning", "note"]

# A run is examined after each of hundreds of iterations; at 4 standard errors chance alone raises a finding
# in less than one run in a hundred.
SURE = 4.0
# Iterations a state must last to count as one.
RECENT, LASTING = 5, 10
# Fewer points leave the noise unknown: with 12 it rests on 11 differences and both windows hold 3.
FEWEST = 12
# Most points in the first and in the last window: learning is fastest at first, which a long one blurs.
_FIRST, _LAST = 5, 10


class TrainingFinding(Record):
    """Something wrong in a run.

    `stop` means that training on is pointless, `warning` asks for a look, `note` is good to know.
    """

    kind: str
    severity: Severity
    sentence: str
    remedy: str


class SampledResponse(Record):
    """Line of samples.jsonl: one completion of an iteration, with what it was worth."""

    iteration: int
    id: str
    prompt: str
    completion: str
    reward: float
    ended: bool
    tokens: int
    parts: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """What the checks look at; `watched` are parts of the reward that are measured and not optimised."""

    lines: Sequence[Line]
    samples: Sequence[SampledResponse]
    config: PPOConfig
    watched: Sequence[str]

    def last(self, name: str, count: int) -> list[float]:
        """A metric over the last `count` iterations; empty where there are fewer or one has none."""
        values = series(self.lines[-count:], name)
        return values if len(values) == count else []


def finding(kind: str, severity: Severity, sentence: str, remedy: str) -> TrainingFinding:
    """A `TrainingFinding`, its fields in order."""
    return TrainingFinding(kind=kind, severity=severity, sentence=sentence, remedy=remedy)


@dataclass(frozen=True)
class Change:
    """Means of a series over two windows, the last of `width` points, and the error of their difference."""

    before: float
    after: float
    stderr: float
    width: int

    @property
    def rise(self) -> float:
        """After minus before."""
        return self.after - self.before

    @property
    def z(self) -> float:
        """The rise in standard errors; infinite for a change without any noise, 0 for none."""
        if self.stderr > 0:
            return self.rise / self.stderr
        return math.copysign(math.inf, self.rise) if self.rise else 0.0


def series(lines: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The finite values of a metric, in order; lines without one are left out."""
    values = (line.get(name) for line in lines)
    return [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]


def noise(values: Sequence[float]) -> float:
    """Standard deviation of one point about a mean that moves slowly, 0 for fewer than two points.

    Half the mean squared successive difference (J. von Neumann, Annals of Mathematical Statistics 12, 1941):
    a trend hardly enters it, as it would enter the variance.
    """
    if len(values) < 2:
        return 0.0
    steps = [(later - sooner) ** 2 for sooner, later in pairwise(values)]
    return math.sqrt(mean(steps) / 2)


def width_of(n: int) -> int:
    """Points in the last window of a series of `n`: a quarter of them, at most 10."""
    return max(1, min(_LAST, n // 4))


def change(values: Sequence[float], errors: Sequence[float] = ()) -> Change | None:
    """Compare the end of a series with its beginning (5 points at most); None for fewer than 12 points.

    `errors` are standard errors of the points where they are known; the larger of them and of the scatter
    from point to point counts.
    """
    if len(values) < FEWEST:
        return None
    width = width_of(len(values))
    return between(values[: min(_FIRST, width)], values[-width:], point_error(values, errors))


def point_error(values: Sequence[float], errors: Sequence[float] = ()) -> float:
    """Standard error of one point: from its neighbours, or what is known of it where that is more."""
    known = math.sqrt(mean([error**2 for error in errors])) if errors else 0.0
    return max(noise(values), known)


def between(before: Sequence[float], after: Sequence[float], error: float) -> Change:
    """The change from one window to another whose points each have the standard error `error`."""
    spread = error * math.sqrt(1 / len(before) + 1 / len(after))
    return Change(mean(before), mean(after), spread, len(after))
