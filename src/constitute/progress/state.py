"""The figures of one stage so far, and the words they are shown in."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

# Rows that end within this time of the first came out of one batch: too few to tell a pace from.
LEAST_SEEN_S = 2.0


@dataclass
class StageState:
    """One stage's figures so far; `done` includes rows of earlier runs, `fresh` does not.

    A stage is opened when its model is loaded. `first` is when its first row ended: what comes before it is
    spent on warming up and filling the engine, and says nothing of the rows to come. A trainer's steps are
    few and long: `begun` is when its first one did, and `share` the part of the one under way that is done.
    """

    name: str
    total: int | None
    done: int
    fresh: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)
    first: float | None = None
    begun: float | None = None
    share: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)

    def rate(self, now: float) -> float:
        """Rows a second of this run."""
        return self.fresh / max(now - self.started, 1e-9)

    def eta_s(self, now: float) -> float | None:
        """Seconds to go, None while unknown."""
        left = None if self.total is None else max(0, self.total - self.done)
        if left is None:
            return None
        if self.first is not None and self.fresh >= 2:
            since, seen = self.first, self.fresh - 1 + self.share
        elif self.begun is not None and self.fresh + self.share > 0:
            since, seen = self.begun, self.fresh + self.share
        else:
            return None
        return max(0.0, left - self.share) * (now - since) / seen if now - since >= LEAST_SEEN_S else None

    def token_rate(self, now: float) -> float:
        """Tokens a second of this run."""
        return self.tokens / max(now - self.started, 1e-9)


def describe(state: StageState, ended: bool = False) -> str:
    """One line of figures, such as `120 of 200 rows, 3 failed, 41.2 rows/s, 2310 tokens/s, 2 s left`."""
    now = time.monotonic()
    unit = _unit(state.name)
    parts = [f"{state.done} {unit}" if state.total is None else f"{state.done} of {counted(state)}"]
    if state.share:
        parts.append(f"{100 * state.share:.0f} % of the next")
    parts += [
        f"{state.statuses[status]} {status}" for status in ("abstain", "failed") if state.statuses[status]
    ]
    parts += [f"{name} {_figure(value)}" for name, value in state.figures.items()]
    # Nothing has ended yet: the time spent shows that it is alive, a rate of 0 would not.
    so_far = "" if ended else f"{now - state.started:.0f} s so far"
    parts.append(_pace(state.rate(now), unit) if state.fresh else so_far)
    if state.tokens:
        parts.append(f"{state.token_rate(now):.0f} tokens/s")
    eta = state.eta_s(now)
    parts.append(f"in {now - state.started:.0f} s" if ended else _left(eta))
    return ", ".join(part for part in parts if part)


def _left(eta: float | None) -> str:
    if eta is None:
        return ""
    minutes, seconds = divmod(int(eta), 60)
    return f"{minutes} min {seconds} s left" if minutes else f"{seconds} s left"


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def _pace(rate: float, unit: str) -> str:
    """`41.2 rows/s`, or `32 s/step` where a rate a second would read as 0."""
    return f"{1 / rate:.0f} s/{unit[:-1]}" if 0 < rate < 0.1 else f"{rate:.1f} {unit}/s"


def _unit(stage: str) -> str:
    """What a stage counts: a trainer's updates are steps, everything else goes row by row."""
    return "steps" if stage.startswith("train ") else "rows"


def counted(state: StageState) -> str:
    """`120 rows` or `1 step`; `started` while the number is unknown."""
    unit = _unit(state.name)
    return "started" if state.total is None else f"{state.total} {unit if state.total != 1 else unit[:-1]}"
