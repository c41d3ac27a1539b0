"""The lines of pocket's score card, and pairs that differ on one axis at least."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from constitute.pocket import replies
from constitute.pocket.replies import ANY, Axis, Reply
from constitute.pocket.world import Ask
from constitute.stats import wilson


@dataclass(frozen=True)
class Score:
    """A proportion with its Wilson interval at 95 % and the target it is held to."""

    name: str
    value: float
    low: float
    high: float
    n: int
    target: str = ""
    passed: bool | None = None


def score(
    name: str, hits: Sequence[bool], at_least: float | None = None, at_most: float | None = None
) -> Score:
    """Count hits; the target is met by the value itself, not by its interval."""
    n = len(hits)
    value = sum(hits) / n if n else math.nan
    low, high = wilson(sum(hits), n)
    if at_least is not None:
        return Score(name, value, low, high, n, f">= {at_least:.0%}", value >= at_least)
    if at_most is not None:
        return Score(name, value, low, high, n, f"<= {at_most:.0%}", value <= at_most)
    return Score(name, value, low, high, n)


def draw_pair(rng: random.Random, ask: Ask, axis: Axis) -> tuple[Reply, Reply]:
    """Two replies of which exactly one violates the axis."""
    while True:
        a, b = replies.draw_reply(rng, ask, ANY), replies.draw_reply(rng, ask, ANY)
        if replies.has(ask, a, axis) != replies.has(ask, b, axis):
            return a, b
