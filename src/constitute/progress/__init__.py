"""Say how far a run is: a live line on a terminal, plain lines off it, JSON events for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TextIO

from constitute.progress.show import Events, Live, Plain


class Progress(Protocol):
    """What a driver or a trainer reports to. Several stages may be open at the same time."""

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None:
        """Open a stage of `total` rows (None while unknown), `done` of them from an earlier run."""
        ...

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        """One row, or one iteration of a trainer, ended; `figures` replace the last ones shown."""
        ...

    def part(self, stage: str, share: float) -> None:
        """A share in [0, 1) of the row or step under way is done; 0 says that one has begun."""
        ...

    def tokens(self, stage: str, count: int) -> None:
        """The model wrote `count` more tokens for the stage."""
        ...

    def note(self, text: str) -> None:
        """One sentence for the person who is watching."""
        ...

    def waiting(self, text: str) -> AbstractContextManager[None]:
        """Say at once what the block does, which takes a while and has no rows to count."""
        ...

    def finish(self, stage: str) -> None:
        """Close a stage and say its figures."""
        ...


class Silent:
    """Says nothing."""

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None: ...

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None: ...

    def part(self, stage: str, share: float) -> None: ...

    def tokens(self, stage: str, count: int) -> None: ...

    def note(self, text: str) -> None: ...

    def waiting(self, text: str) -> AbstractContextManager[None]:
        return nullcontext()

    def finish(self, stage: str) -> None: ...


def first_process() -> bool:
    """Whether this process is the first, or the only one, of those a launcher started: it speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE") or 1)


_heard: list[Progress] = []


def heard() -> Progress | None:
    """What is shown at the moment, for a word from outside the run; None where nothing is."""
    return _heard[-1] if _heard else None


@contextmanager
def open_progress(as_json: bool = False, out: TextIO | None = None) -> Iterator[Progress]:
    """JSON events on stdout, a live display where stderr is a terminal, plain lines elsewhere.

    Of several processes the first alone is heard.
    """
    if not first_process():
        yield Silent()
        return
    shown: Events | Plain | Live
    if as_json:
        shown = Events(out or sys.stdout)
    else:
        out = out or sys.stderr
        shown = Live(out) if out.isatty() else Plain(out)
    with shown.running():
        _heard.append(shown)
        try:
            yield shown
        finally:
            _heard.remove(shown)
