"""The figures of one stage so far, and the words they are shown in."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

# Rows that end within this time of the first came out of one batch: too few to tell a pace from.
LEAST_SEEN_S = 2.0
# A pace is told from so many rows or steps, or from this share of all there are to do.
LEAST_ROWS, LEAST_STEPS, LEAST_SHARE = 16, 3, 0.1
# The pace is that of the last minute, further back where it holds fewer rows: rows come in batches, as many
# as are in flight, and a step of a trainer may take minutes.
WINDOW_S = 60.0
WINDOW_ROWS = 16
WINDOW_STEPS = 4


@dataclass
class StageState:
    """One stage's figures so far; `done` includes rows of earlier runs, `fresh` does not.

    A stage is opened when its model is loaded. `first` is when its first row ended. A trainer's steps are
    few and long: `begun` is when its first one did, and `share` the part of the one under way that is done.
    `marks` holds (time, fresh rows by then), the last of each second.
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
    marks: list[tuple[float, int]] = field(default_factory=list)

    def ended(self, now: float) -> None:
        """One row or step ended."""
        self.done += 1
        self.fresh += 1
        self.share = 0.0
        self.first = now if self.first is None else self.first
        # New lists: a live display reads them from a thread of its own.
        kept = self.marks[max(0, self._at(now)) :]
        if kept and int(kept[-1][0]) == int(now):
            kept = kept[:-1]
        self.marks = [*kept, (now, self.fresh)]

    def rate(self, now: float) -> float:
        """Rows or steps a second, of this run and lately; a part of a step counts."""
        since, seen = self._window(now)
        return seen / max(now - since, 1e-9)

    def mean_rate(self, now: float) -> float:
        """Rows a second over all of this run."""
        return self.fresh / max(now - self.started, 1e-9)

    def eta_s(self, now: float) -> float | None:
        """Seconds to go at `rate`, None while unknown."""
        since, _ = self._window(now)
        known_since = self.first if self.begun is None else since
        if self.total is None or known_since is None or now - known_since < LEAST_SEEN_S:
            return None
        left = max(0.0, self.total - self.done - self.share)
        return left / self.rate(now) if self._tells(now, known_since, left) else None

    def _tells(self, now: float, known_since: float, left: float) -> bool:
        """Whether what has ended tells the pace of the rest: enough of it, and not the start-up above all.

        The first row comes when a model is warm, which may take a minute; two rows in it would mean hours.
        """
        seen, steps = self.fresh + self.share, self.begun is not None
        if seen <= 0 or (not steps and seen < 2):
            return False
        if now - known_since >= WINDOW_S:
            return True
        least = LEAST_STEPS if steps else LEAST_ROWS
        warming = 0.0 if steps else known_since - self.started
        return seen >= min(least, LEAST_SHARE * (seen + left)) and (
            seen >= left or now - known_since >= warming / 2
        )

    def _window(self, now: float) -> tuple[float, float]:
        """When the window of the pace begins, and the rows or steps seen in it."""
        origin = self.started if self.begun is None else self.begun
        at = self._at(now)
        since, before = self.marks[at] if at >= 0 else (origin, 0)
        return since, self.fresh - before + self.share

    def _at(self, now: float) -> int:
        """The last of `marks` that the window may begin at; -1 where that is the beginning of all.

        Steps run one after another: the first one, which warms up, leaves the window when another has ended.
        """
        least = WINDOW_ROWS if self.begun is None else WINDOW_STEPS
        warm = self.begun is not None and self.fresh >= 2 and self.marks and self.marks[0][1] == 1
        found = 0 if warm else -1
        for at, (since, before) in enumerate(self.marks):
            if now - since >= WINDOW_S and self.fresh - before >= least:
                found = at
        return found

    def token_rate(self, now: float) -> float:
        """Tokens a second of this run."""
        return self.tokens / max(now - self.started, 1e-9)


def describe(state: StageState, ended: bool = False, now: float | None = None) -> str:
    """One line of figures, such as `120 of 200 rows, 3 failed, 41.2 rows/s, 2310 tokens/s, 1 s left`."""
    now = time.monotonic() if now is None else now
    unit = _unit(state.name)
    parts = [f"{state.done} {unit}" if state.total is None else f"{state.done} of {counted(state)}"]
    if state.share:
        parts.append(f"{100 * state.share:.0f} % of the next")
    if ended and unit == "rows" and state.total is not None and state.done < state.total:
        parts.append(f"{state.total - state.done} did not come this far")
    parts += [
        f"{state.statuses[status]} {status}" for status in ("abstain", "failed") if state.statuses[status]
    ]
    parts += [f"{name} {_figure(value)}" for name, value in state.figures.items()]
    # Nothing has ended yet: the time spent shows that it is alive, a rate of 0 would not.
    so_far = "" if ended else f"{now - state.started:.0f} s so far"
    rate = state.mean_rate(now) if ended else state.rate(now)
    parts.append(_pace(rate, unit) if state.fresh else so_far)
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
    """`41.2 rows/s`, `0.25 rows/s`, or `32 s/step` where a rate a second would read as 0."""
    if 0 < rate < 0.1:
        return f"{1 / rate:.0f} s/{unit[:-1]}"
    return f"{rate:.2f} {unit}/s" if rate < 1 else f"{rate:.1f} {unit}/s"


def _unit(stage: str) -> str:
    """What a stage counts: a trainer's updates are steps, everything else goes row by row."""
    return "steps" if stage.startswith("train ") else "rows"


def counted(state: StageState) -> str:
    """`120 rows` or `1 step`; `started` while the number is unknown."""
    unit = _unit(state.name)
    return "started" if state.total is None else f"{state.total} {unit if state.total != 1 else unit[:-1]}"
