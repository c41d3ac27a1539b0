"""What shows a run's progress: plain lines, JSON events, a live display; all keep the same figures."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from constitute.progress.state import StageState, counted, describe
from constitute.text import harmless

if TYPE_CHECKING:
    from rich.text import Text

PLAIN_EVERY_S = 30.0
EVENT_EVERY_S = 1.0
# However little happens, something is shown this often.
BEAT_S = 30.0


class _Counting:
    """Keeps the figures; what is shown, and when, is left to the three kinds below."""

    every_s = PLAIN_EVERY_S
    beat_s = BEAT_S

    def __init__(self) -> None:
        self.stages: dict[str, StageState] = {}
        self.waits: dict[str, float] = {}
        self._last = time.monotonic()
        # Figures come from the thread that works, and the beat from another.
        self._lock = threading.RLock()

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None:
        with self._lock:
            self.stages[stage] = StageState(stage, total, done)
            self._show("start", self.stages[stage])

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        with self._lock:
            state, now = self.stages[stage], time.monotonic()
            known = state.eta_s(now) is not None
            state.ended(now)
            state.statuses[status] += 1
            state.figures.update(figures)
            self._show_news(state, now, known)

    def part(self, stage: str, share: float) -> None:
        with self._lock:
            state, now = self.stages[stage], time.monotonic()
            known = state.eta_s(now) is not None
            state.share = share
            if state.begun is None:
                state.begun = now
                self._show("begin", state)
            self._show_news(state, now, known)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        with self._lock:
            self.waits[text] = time.monotonic()
            self._show_wait("wait", text, 0.0)
        try:
            yield
        finally:
            with self._lock:
                self._show_wait("waited", text, time.monotonic() - self.waits.pop(text))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show a sign of life at least every `beat_s` while the block runs."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.beat_s):
                with self._lock:
                    self._show_all(time.monotonic(), self.beat_s)

        thread = threading.Thread(target=beat, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _show_news(self, state: StageState, now: float, known: bool) -> None:
        """Show all where it is time, and a trainer's first estimate as soon as there is one."""
        first = not known and state.begun is not None and state.eta_s(now) is not None
        self._show_all(now, 0.0 if first else self.every_s)

    def _show_all(self, now: float, every_s: float) -> None:
        if now - self._last < every_s:
            return
        self._last = now
        for text, since in self.waits.items():
            self._show_wait("waiting", text, now - since)
        for state in self.stages.values():
            self._show("progress", state)

    def tokens(self, stage: str, count: int) -> None:
        if stage in self.stages:
            self.stages[stage].tokens += count

    def note(self, text: str) -> None:
        raise NotImplementedError

    def finish(self, stage: str) -> None:
        with self._lock:
            self._show("finish", self.stages.pop(stage))

    def _show(self, event: str, state: StageState) -> None:
        raise NotImplementedError

    def _show_wait(self, event: str, text: str, seconds: float) -> None:
        """`event` is `wait` at the start, `waited` at the end, and `waiting` between."""
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
            self.note(f"{state.name}: {counted(state)}{resumed}")
        elif event == "begin":
            self.note(f"{state.name}: the first step is under way")
        else:
            self.note(f"{state.name}: {describe(state, ended=event == 'finish')}")

    def _show_wait(self, event: str, text: str, seconds: float) -> None:
        if event == "wait":
            self.note(f"{text}…")
        elif event == "waiting":
            self.note(f"{text}: {seconds:.0f} s so far")


class Events(_Counting):
    """JSON lines on stdout: `start`, `begin`, `progress` once a second, `note`, `finish`.

    `wait` says what takes a while and has no rows, `waiting` that it still does, `waited` how long it took.
    """

    every_s = EVENT_EVERY_S

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def note(self, text: str) -> None:
        self._write({"event": "note", "text": text})

    def _show_wait(self, event: str, text: str, seconds: float) -> None:
        self._write({"event": event, "text": text, "seconds": round(seconds, 1)})

    def _show(self, event: str, state: StageState) -> None:
        now = time.monotonic()
        eta = state.eta_s(now)
        values: dict[str, Any] = {
            "event": event,
            "stage": state.name,
            "done": state.done,
            "total": state.total,
            **{status: state.statuses[status] for status in ("ok", "abstain", "failed")},
            "rows_per_s": round(state.mean_rate(now) if event == "finish" else state.rate(now), 3),
            "tokens": state.tokens,
            "tokens_per_s": round(state.token_rate(now), 1),
            "eta_s": None if eta is None else round(eta, 1),
        }
        self._write({**values, **state.figures})

    def _write(self, values: dict[str, Any]) -> None:
        print(json.dumps(values), file=self._out, flush=True)


class Live(_Counting):
    """A line a stage and a wait, redrawn in place by rich."""

    every_s = 0.2

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        super().__init__()
        self.console = Console(file=out, markup=False, highlight=False)
        self._live = RichLive(
            console=self.console, refresh_per_second=5, transient=True, get_renderable=self._lines
        )

    def note(self, text: str) -> None:
        self.console.print(harmless(text))

    def _show(self, event: str, state: StageState) -> None:
        if event == "finish":
            self.note(f"{state.name}: {describe(state, ended=True)}")

    def _show_wait(self, event: str, text: str, seconds: float) -> None:
        if event == "wait":
            # A start that takes the interpreter for itself lets no other thread draw.
            self._live.refresh()

    def _lines(self) -> Text:
        """What stands there now; rich asks for it at each redraw, so seconds pass while nothing else does."""
        from rich.text import Text

        now = time.monotonic()
        # A copy: rich draws from a thread of its own.
        waits = [f"{text}… {now - since:.0f} s" for text, since in list(self.waits.items())]
        stages = [f"{state.name}: {describe(state)}" for state in list(self.stages.values())]
        return Text(harmless("\n".join([*waits, *stages])))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Draw while the block runs."""
        with self._live:
            yield
