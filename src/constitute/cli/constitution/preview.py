"""`constitute constitution preview`: what a model does under the constitution, and what an edit changes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.editing.preview.session import Screen


@options.command()
@click.argument("file")
@click.option("--watch", "watching", is_flag=True, help="Show each save's effect until q is pressed.")
@options.compose(options.model, options.prompts)
@click.option(
    "-n", "--probes", "n", type=click.IntRange(8, 32), default=16, show_default=True, help="How many."
)
@options.compose(
    options.cache, options.config_file, options.sets, options.seed, options.as_json, options.debug
)
def preview(
    file: str,
    watching: bool,
    model: str | None,
    prompts_file: str | None,
    n: int,
    cache_dir: Path,
    config_file: Path | None,
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
      constitute constitution preview my.yaml --model smollm2
      constitute constitution preview my.yaml --watch --model http://localhost:8000 --prompts prompts.jsonl
    """
    from constitute.cli.constitution.preview_text import Lines, Terminal
    from constitute.cli.constitution.probes import probe_prompts
    from constitute.editing.preview.session import preview_constitution
    from constitute.errors import ExitCode
    from constitute.packaged import find

    path = find(file, "constitutions", ".yaml")
    wanted = {"model": model, "prompts": prompts_file, "seed": seed}
    config = options.configured(cache_dir, config_file, sets, wanted)
    screen: Screen = Lines(sys.stdout) if as_json else Terminal(sys.stdout, sys.stderr)
    try:
        last = preview_constitution(
            path,
            config,
            prompts=probe_prompts(config, n),
            n=n,
            screen=screen,
            until=_q_pressed if watching else None,
        )
    except KeyboardInterrupt:
        # Ending a watch by Ctrl-C needs no advice on how to go on.
        if not watching:
            raise
        return ExitCode.INTERRUPTED
    failed = not watching and any(probe.failed for probe in last.probes)
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK


async def _q_pressed() -> None:
    """Return once a person presses q; never where there is no keyboard."""
    pressed = asyncio.Event()
    with _keys(lambda key: pressed.set() if key in "qQ" else None):
        await pressed.wait()


@contextmanager
def _keys(pressed: Callable[[str], None]) -> Iterator[bool]:
    """Hand every key to `pressed` at once while the block runs; yields whether there is a keyboard.

    The terminal is left as it was found. Needs a running loop.
    """
    import termios
    import tty

    try:
        descriptor = sys.stdin.fileno()
        if not os.isatty(descriptor) or _in_background(descriptor):
            raise OSError("nobody can press a key")
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, AttributeError, termios.error):
        yield False
        return
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            typed = os.read(descriptor, 1024)
        except OSError:
            typed = b""
        if not typed:
            loop.remove_reader(descriptor)
        for key in typed.decode("utf-8", "replace"):
            pressed(key)

    tty.setcbreak(descriptor, termios.TCSANOW)
    loop.add_reader(descriptor, read)
    try:
        yield True
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _in_background(terminal: int) -> bool:
    """Whether another job has the terminal; a background process that touches its settings is stopped."""
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:
        # Not the terminal that controls this process, so no job control either.
        return False
