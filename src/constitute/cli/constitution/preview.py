"""`constitute constitution preview`: what a model does under the constitution, and what an edit changes."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.cli.constitution.probes import probe_prompts

if TYPE_CHECKING:
    from constitute.cli.constitution.preview_text import Screen
    from constitute.cli.constitution.watch import Event, Work
    from constitute.config import RunConfig
    from constitute.editing.preview.plan import Preview
    from constitute.engines.base import Engine
    from constitute.store import Store
    from constitute.types import Constitution, Prompt

FAILED_ROWS, INTERRUPTED = 3, 130


@options.command()
@click.argument("file")
@click.option("--watch", "watching", is_flag=True, help="Show each save's effect until q is pressed.")
@options.compose(options.model, options.prompts)
@click.option(
    "-n", "--probes", "n", type=click.IntRange(8, 32), default=16, show_default=True, help="How many."
)
@options.compose(options.cache, options.sets, options.seed, options.as_json, options.debug)
def preview(
    file: str,
    watching: bool,
    model: str | None,
    prompts_file: str | None,
    n: int,
    cache_dir: Path,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> int:
    """Show what a model answers, criticises, revises and prefers under the constitution FILE.

    A few probes go through response, critique, revision and label, each under one principle: the
    principles' own probes, then --prompts, else a packaged set. What an edit did not touch is not asked
    again; what it moved stands beside what it was. With --watch, every save is shown as it is made.

    \b
    Examples:
      constitute constitution preview my.yaml --model pocket
      constitute constitution preview my.yaml --watch --model http://localhost:8000 --prompts prompts.jsonl
    """
    from constitute.cli.constitution.preview_text import Lines, Terminal
    from constitute.constitution.read import parse_constitution
    from constitute.errors import UsageError
    from constitute.packaged import find
    from constitute.store import Store
    from constitute.strict_yaml import read_bytes

    path = find(file, "constitutions", ".yaml")
    data = read_bytes(path)
    constitution = parse_constitution(data, path)
    config = options.configured(
        cache_dir, None, sets, {"model": model, "prompts": prompts_file, "seed": seed}
    )
    if config.model is None:
        raise UsageError("no model given; name one with --model, such as --model pocket")
    others = probe_prompts(config, n)
    screen: Screen = Lines(sys.stdout) if as_json else Terminal(sys.stdout, sys.stderr)
    with Store.open(config.run) as store:
        for notice in store.notices:
            screen.note(notice)
        session = _Session(path, config, others, n, screen, store)
        try:
            return asyncio.run(session.run(data, constitution, watching))
        except KeyboardInterrupt:
            # Ending a watch by Ctrl-C needs no advice on how to go on.
            if not watching:
                raise
            return INTERRUPTED


class _Session:
    """One engine, one store, and the last whole preview of one file."""

    def __init__(
        self, path: Path, config: RunConfig, others: list[Prompt], n: int, screen: Screen, store: Store
    ) -> None:
        self._path, self._config, self._others, self._n = path, config, others, n
        self._screen, self._store = screen, store
        self._engine: Engine
        self._judge: Engine | None = None
        self._before: Preview | None = None
        self._made_by = ""
        self._edit = 0

    async def run(self, data: bytes, constitution: Constitution, watching: bool) -> int:
        """Open the engine, show the first preview, watch if asked to; returns the exit code."""
        from constitute.cli.constitution.watch import watch
        from constitute.editing.preview.run import close_all, last_preview, made_by
        from constitute.engines import open_engine
        from constitute.strict_yaml import read_bytes

        config = self._config
        self._screen.note(f"opening {config.model}")
        self._engine = open_engine(str(config.model), config.engine)
        try:
            self._judge = None if config.judge is None else open_engine(config.judge, config.engine)
            self._made_by = made_by(config, self._engine, self._judge)
            self._before, note = last_preview(self._store, self._path, self._made_by)
            if self._before is not None:
                note = "compared with the last preview of this file"
            if note:
                self._screen.note(note)
            first = self._round(constitution, time.monotonic(), retry_failed=True)
            if not watching:
                await first
                failed = self._before is not None and any(probe.failed for probe in self._before.probes)
                return FAILED_ROWS if failed else 0
            self._screen.note(f"watching {self._path}; q ends")
            await watch(self._path, data, read_bytes, self._on, first)
            return 0
        finally:
            await close_all(self._engine, self._judge)

    def _on(self, event: Event) -> Work | None:
        """What to do about an event; a file that cannot be used is told of, and the last good one stays."""
        from constitute.constitution.read import parse_constitution
        from constitute.errors import DataError

        if event.kind == "gone":
            self._screen.note(f"{self._path} is gone; waiting for it to come back")
        elif event.kind == "back":
            self._screen.note(f"{self._path} is back as it was")
        elif event.kind == "unreadable":
            self._screen.problem(event.reason)
        else:
            try:
                constitution = parse_constitution(event.data, self._path)
            except DataError as problem:
                self._screen.problem(f"{problem}\nstill showing the last file without errors")
                return None
            self._edit += 1
            return self._round(constitution, event.at)
        return None

    async def _round(self, constitution: Constitution, since: float, *, retry_failed: bool = False) -> None:
        """One round; `since` is when its save was noticed."""
        from constitute.editing.preview.plan import Moved
        from constitute.editing.preview.run import keep_preview, plan_round, run_round

        edit, screen = self._edit, self._screen
        plan = plan_round(
            constitution,
            self._others,
            self._n,
            self._config,
            self._made_by,
            self._before,
            retry_failed=retry_failed,
        )
        screen.begin(edit, plan)
        found = await run_round(
            plan,
            self._config,
            self._engine,
            self._store,
            lambda moved: screen.probe(edit, moved),
            self._judge,
        )
        for shown in plan.kept if not edit else ():
            screen.probe(edit, Moved(before=shown, after=shown))
        keep_preview(self._store, self._path, found.preview)
        self._before = found.preview
        screen.end(edit, plan, found, time.monotonic() - since)
