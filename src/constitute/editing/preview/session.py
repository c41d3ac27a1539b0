"""Preview a constitution file, once or after each save, and show each round as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.constitution.read import parse_constitution, select
from constitute.editing.preview.plan import Moved, Preview
from constitute.editing.preview.run import (
    USUAL,
    Round,
    RoundPlan,
    default_prompts,
    keep_preview,
    last_preview,
    made_by,
    plan_round,
    run_round,
)
from constitute.editing.preview.watch import Event, Work, watch
from constitute.editing.trial import known as trial
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import DataError, UsageError
from constitute.pipeline.session import dated, open_store
from constitute.progress import Silent
from constitute.store import Store
from constitute.strict_yaml import read_bytes
from constitute.types import Constitution, Prompt

# Called once in the running loop; the watch ends when what it returns does.
Until = Callable[[], Coroutine[Any, Any, None]]


class Screen(Protocol):
    """Where a preview is shown. `edit` numbers the rounds: 0 is the first."""

    def note(self, text: str) -> None:
        """One sentence for the person who is watching."""
        ...

    def problem(self, text: str) -> None:
        """Why the file cannot be used."""
        ...

    def begin(self, edit: int, plan: RoundPlan) -> None:
        """What a round will ask."""
        ...

    def probe(self, edit: int, moved: Moved) -> None:
        """One result, as soon as it is there."""
        ...

    def end(self, edit: int, plan: RoundPlan, found: Round, seconds: float) -> None:
        """How a round ended."""
        ...


class Blank:
    """Shows nothing. Implements `Screen`."""

    def note(self, text: str) -> None: ...

    def problem(self, text: str) -> None: ...

    def begin(self, edit: int, plan: RoundPlan) -> None: ...

    def probe(self, edit: int, moved: Moved) -> None: ...

    def end(self, edit: int, plan: RoundPlan, found: Round, seconds: float) -> None: ...


def preview_constitution(
    path: Path,
    config: RunConfig,
    *,
    prompts: Sequence[Prompt] | None = None,
    n: int = USUAL,
    screen: Screen | None = None,
    engine: Engine | None = None,
    until: Until | None = None,
) -> Preview:
    """Show what a model does under the file at `path` and return the last round; blocks until done.

    The principles' own probes come first, then `prompts` (packaged ones where None), `n` in all. `engine`,
    else `config.model`, is asked what the store at `config.run` cannot answer. With `until`, each save of the
    file is shown too, until `until()` returns. Raises `DataError` for a file that cannot be used at the
    start, `UsageError`, `EngineError`, `StorageError`.
    """
    screen = screen or Blank()
    data = read_bytes(path)
    constitution = _read(data, path, config)
    if engine is None:
        named_model(config.model)
    others = default_prompts() if prompts is None else prompts
    session = _Session(path, config, others, n, screen)
    with open_store(config, session.notes) as store:
        return block(session.run(store, engine, data, constitution, until))


class _Session:
    """One file, one model, and the last whole preview."""

    def __init__(
        self, path: Path, config: RunConfig, others: Sequence[Prompt], n: int, screen: Screen
    ) -> None:
        self._path, self._config, self._others, self._n = path, config, others, n
        self._screen = screen
        self.notes = _Notes(screen)
        self._store: Store
        self._engine: Engine
        self._judge: Engine | None = None
        self._before: Preview | None = None
        self._made_by = ""
        self._edit = 0

    async def run(
        self, store: Store, given: Engine | None, data: bytes, constitution: Constitution, until: Until | None
    ) -> Preview:
        """Open the model, show the first round, and with `until` each save; returns the last round."""
        config, self._store = self._config, store
        async with AsyncExitStack() as opened:
            notes = _Notes(self._screen)
            self._engine = await opened.enter_async_context(
                use_engine(config.model, dated(config).engine, notes, given)
            )
            if given is None and config.judge is not None:
                self._judge = await opened.enter_async_context(
                    use_engine(config.judge, dated(config).engine, notes)
                )
            self._made_by = made_by(config, self._engine, self._judge)
            self._before, note = last_preview(store, self._path, self._made_by)
            if self._before is not None:
                note = "compared with the last preview of this file"
            if note:
                self._screen.note(note)
            first = self._round(constitution, time.monotonic(), retry_failed=True)
            if until is None:
                await first
            else:
                self._screen.note(f"watching {self._path}; q ends")
                await watch(self._path, data, read_bytes, self._on, first, until)
        return self._before or Preview(made_by=self._made_by, principles={}, probes=())

    def _on(self, event: Event) -> Work | None:
        """What to do about an event; a file that cannot be used is named, and the last good one stays."""
        if event.kind == "gone":
            self._screen.note(f"{self._path} is gone; waiting for it to come back")
        elif event.kind == "back":
            self._screen.note(f"{self._path} is back as it was")
        elif event.kind == "unreadable":
            self._screen.problem(event.reason)
        else:
            try:
                constitution = _read(event.data, self._path, self._config)
            except (DataError, UsageError) as problem:
                self._screen.problem(f"{problem}\nstill showing the last file without errors")
                return None
            self._edit += 1
            return self._round(constitution, event.at)
        return None

    async def _round(self, constitution: Constitution, since: float, *, retry_failed: bool = False) -> None:
        """One round; `since` is when its save was noticed."""
        edit, screen, config = self._edit, self._screen, self._config
        plan = plan_round(
            constitution,
            self._others,
            self._n,
            config,
            self._made_by,
            self._before,
            retry_failed=retry_failed,
        )
        screen.begin(edit, plan)
        found = await run_round(
            plan, config, self._engine, self._store, lambda moved: screen.probe(edit, moved), self._judge
        )
        for shown in plan.kept if not edit else ():
            screen.probe(edit, Moved(before=shown, after=shown))
        keep_preview(self._store, self._path, found.preview)
        self._before = found.preview
        screen.end(edit, plan, found, time.monotonic() - since)
        if said := self._tests(constitution):
            screen.note(said)

    def _tests(self, constitution: Constitution) -> str:
        """What the store knows of the constitution's own tests under these words; nothing is asked."""
        cfg = self._config.label
        made = trial.made_by((self._judge or self._engine).identity, cfg, self._config.seed)
        return trial.known_text(trial.known(self._store, made, cfg, constitution))


class _Notes(Silent):
    """Hands notes, and what takes a while, to a screen."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def note(self, text: str) -> None:
        self._screen.note(text)

    def waiting(self, text: str) -> AbstractContextManager[None]:
        self._screen.note(text)
        return super().waiting(text)


def _read(data: bytes, path: Path, config: RunConfig) -> Constitution:
    return select(parse_constitution(data, path), config.tags)
