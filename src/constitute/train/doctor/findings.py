"""What a look at a training run works from, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from constitute.config.ppo import PPOConfig
from constitute.train.doctor.trend import series
from constitute.types import Record

Line = Mapping[str, Any]
Severity = Literal["stop", "warning", "note"]

# A run is looked at after each of hundreds of iterations; at 4 standard errors chance alone speaks up in
# less than one run in a hundred.
SURE = 4.0
# Iterations a state must last to count as one.
RECENT, LASTING = 5, 10


class Finding(Record):
    """Something wrong: `stop` makes training on pointless, `warning` wants a look, `note` is good to know."""

    kind: str
    severity: Severity
    sentence: str
    remedy: str


class Sample(Record):
    """Line of samples.jsonl: one completion of an iteration, with what it was worth."""

    iteration: int
    id: str
    prompt: str
    completion: str
    reward: float
    ended: bool
    tokens: int


@dataclass(frozen=True)
class Seen:
    """What the rules look at; `watched` are parts of the reward that are measured and not optimised."""

    lines: Sequence[Line]
    samples: Sequence[Sample]
    config: PPOConfig
    watched: Sequence[str]

    def last(self, name: str, count: int) -> list[float]:
        """A metric over the last `count` iterations; empty where there are fewer or one has none."""
        values = series(self.lines[-count:], name)
        return values if len(values) == count else []


def finding(kind: str, severity: Severity, sentence: str, remedy: str) -> Finding:
    """A `Finding`, without the names."""
    return Finding(kind=kind, severity=severity, sentence=sentence, remedy=remedy)
