"""Say how far a run is: a live line on a terminal, plain lines off it, JSON events for programs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from constitute.text import harmless

PLAIN_EVERY_S = 30.0
EVENT_EVERY_S = 1.0
# Rows that end within this time of the first came out of one batch: too few to tell a pace from.
LEAST_SEEN_S = 2.0


class Progress(Protocol):
    """What a driver or a trainer reports to. Several stages may be open at the same time."""

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None:
        """Open a stage of `total` rows (None while unknown), `done` of them from an earlier run."""
        ...

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        """One row, or one iteration of a trainer, ended; `figures` replace the last ones shown."""
        ...

    def tokens(self, stage: str, count: int) -> None:
        """The model wrote `count` more tokens for the stage."""
        ...

    def note(self, text: str) -> None:
        """One sentence for the person who is watching."""
        ...

    def finish(self, stage: str) -> None:
        """Close a stage and say its figures."""
        ...


@dataclass
class StageState:
    """One stage's figures so far; `done` includes rows of earlier runs, `fresh` does not.

    A stage is opened when its model is loaded. `first` is when its first row ended: what comes before it is
    spent on warming up and filling the engine, and says nothing of the rows to come.
    """

    name: str
    total: int | None
    done: int
    fresh: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)
    first: float | None = None
    statuses: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)

    def rate(self, now: float) -> float:
        """Rows a second of this run."""
        return self.fresh / max(now - self.started, 1e-9)

    def eta_s(self, now: float) -> float | None:
        """Seconds to go, None while unknown."""
        left = None if self.total is None else max(0, self.total - self.done)
        if left is None or self.first is None or self.fresh < 2 or now - self.first < LEAST_SEEN_S:
            return None
        return left * (now - self.first) / (self.fresh - 1)

    def token_rate(self, now: float) -> float:
        """Tokens a second of this run."""
        return self.tokens / max(now - self.started, 1e-9)


class Silent:
    """Says nothing."""

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None: ...

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None: ...

    def tokens(self, stage: str, count: int) -> None: ...

    def note(self, text: str) -> None: ...

    def finish(self, stage: str) -> None: ...


class _Counting:
    """Keeps the figures; what is shown, and when, is left to the three kinds below."""

    every_s = PLAIN_EVERY_S

    def __init__(self) -> None:
        self.stages: dict[str, StageState] = {}
        self._last = time.monotonic()

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None:
        self.stages[stage] = StageState(stage, total, done)
        self._show("start", self.stages[stage])

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        state = self.stages[stage]
        state.done += 1
        state.fresh += 1
        state.statuses[status] += 1
        state.figures.update(figures)
        now = time.monotonic()
        state.first = now if state.first is None else state.first
        if now - self._last >= self.every_s:
            self._last = now
            for open_stage in self.stages.values():
                self._show("progress", open_stage)

    def tokens(self, stage: str, count: int) -> None:
        if stage in self.stages:
            self.stages[stage].tokens += count

    def note(self, text: str) -> None:
        raise NotImplementedError

    def finish(self, stage: str) -> None:
        self._show("finish", self.stages.pop(stage))

    def _show(self, event: str, state: StageState) -> None:
        raise NotImplementedError


class Plain(_Counting):
    """A line on stderr when a stage starts and ends, and every 30 seconds between."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def note(self, text: str) -> None:
        print(harmless(text), file=self._out, flush=True)

    def _show(self, event: str, state: StageState) -> None:
        if event == "start":
            resumed = f", {state.done} done before" if state.done else ""
            self.note(f"{state.name}: {_of(state)}{resumed}")
        else:
            self.note(f"{state.name}: {describe(state, ended=event == 'finish')}")


class Events(_Counting):
    """JSON lines on stdout: `start`, `progress` once a second, `note`, `finish`."""

    every_s = EVENT_EVERY_S

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def note(self, text: str) -> None:
        self._write({"event": "note", "text": text})

    def _show(self, event: str, state: StageState) -> None:
        now = time.monotonic()
        eta = state.eta_s(now)
        values: dict[str, Any] = {
            "event": event,
            "stage": state.name,
            "done": state.done,
            "total": state.total,
            **{status: state.statuses[status] for status in ("ok", "abstain", "failed")},
            "rows_per_s": round(state.rate(now), 3),
            "tokens": state.tokens,
            "tokens_per_s": round(state.token_rate(now), 1),
            "eta_s": None if eta is None else round(eta, 1),
        }
        self._write({**values, **state.figures})

    def _write(self, values: dict[str, Any]) -> None:
        print(json.dumps(values), file=self._out, flush=True)


class Live(_Counting):
    """A line a stage, redrawn in place by rich."""

    every_s = 0.2

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        super().__init__()
        self.console = Console(file=out, markup=False, highlight=False)
        self._live = RichLive(console=self.console, refresh_per_second=5, transient=True)

    def note(self, text: str) -> None:
        self.console.print(harmless(text))

    def _show(self, event: str, state: StageState) -> None:
        from rich.text import Text

        if event == "finish":
            self.note(f"{state.name}: {describe(state, ended=True)}")
        lines = [f"{s.name}: {describe(s)}" for s in self.stages.values()]
        self._live.update(Text("\n".join(lines)))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Draw while the block runs."""
        with self._live:
            yield


def describe(state: StageState, ended: bool = False) -> str:
    """One line of figures, such as `120 of 200 rows, 3 failed, 41.2 rows/s, 2310 tokens/s, 2 s left`."""
    now = time.monotonic()
    unit = _unit(state.name)
    parts = [f"{state.done} {unit}" if state.total is None else f"{state.done} of {state.total} {unit}"]
    parts += [
        f"{state.statuses[status]} {status}" for status in ("abstain", "failed") if state.statuses[status]
    ]
    parts += [f"{name} {_figure(value)}" for name, value in state.figures.items()]
    parts.append(_pace(state.rate(now), unit))
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


def _of(state: StageState) -> str:
    return "started" if state.total is None else f"{state.total} {_unit(state.name)}"


def first_process() -> bool:
    """Whether this process is the first, or the only one, of those a launcher started: it speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE") or 1)


@contextmanager
def open_progress(as_json: bool = False, out: TextIO | None = None) -> Iterator[Progress]:
    """JSON events on stdout, a live display where stderr is a terminal, plain lines elsewhere.

    Of several processes the first alone is heard.
    """
    if not first_process():
        yield Silent()
        return
    if as_json:
        yield Events(out or sys.stdout)
        return
    out = out or sys.stderr
    if not out.isatty():
        yield Plain(out)
        return
    live = Live(out)
    with live.running():
        yield live
