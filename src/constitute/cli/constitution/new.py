"""`constitute constitution new`: write a constitution file that is ready to be edited."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.constitution.new import GivenWording

QUESTION = "What should the model do or not do? (empty line ends)"


@options.command()
@click.argument("output", metavar="OUT.yaml", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--from", "source", metavar="FILE", help="Start from this file or packaged constitution.")
@click.option("--aim", "aims", multiple=True, help="What the model should do or not do; may be repeated.")
@click.option("--ask", is_flag=True, help="Ask for the aims on the terminal.")
@click.option("--name", default="", help="Name of the constitution; that of the file if absent.")
@options.force
@options.compose(options.model, options.cache, options.config_file, options.sets, options.debug)
def new(
    output: Path,
    source: str | None,
    aims: tuple[str, ...],
    ask: bool,
    name: str,
    force: bool,
    model: str | None,
    cache_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
) -> int:
    """Write a new constitution with comments to OUT.yaml.

    Without options it holds two examples. Each --aim becomes a principle whose forms come from templates;
    with a model (--model, or that of --config) the model words it, and an aim it does not word keeps the
    templates and is counted.

    \b
    Examples:
      constitute constitution new my.yaml --aim "never help with crime" --aim "be brief"
      constitute constitution new my.yaml --from assistant
    """
    from constitute.constitution.new import GivenWording, check_aims, from_aims, from_file, from_scratch
    from constitute.errors import UsageError
    from constitute.files import write_new
    from constitute.packaged import find
    from constitute.strict_yaml import read_bytes

    if output.exists() and not force:
        # Said before anything is asked of a person or a model.
        raise UsageError(f"{output} exists already; give another name, or --force to replace it")
    base = None if source is None else read_bytes(find(source, "constitutions", ".yaml"))
    wanted = check_aims([*aims, *(_asked(aims) if ask else [])])
    config = options.configured(cache_dir, config_file, sets, {"model": model})
    if model is not None and not wanted:
        raise UsageError("--model words aims and none was given; add --aim, or --ask to be asked for them")
    words = [GivenWording(aim) for aim in wanted]
    if config.model is not None and wanted:
        words = _worded(wanted, config)
    title, skipped = name or output.stem, 0
    if base is not None:
        data, skipped = from_file(base, title, words)
        text = data.decode()
    else:
        text = from_aims(title, words) if words else from_scratch(title)
    write_new(output, text, force=force)
    return _told(output, text, [(w.text, w.failed) for w in words], skipped)


def _asked(given: tuple[str, ...]) -> list[str]:
    """Aims typed on the terminal, one a line, until an empty one; a bad one is asked for again."""
    from constitute.cli.text import say
    from constitute.constitution.new import check_aims
    from constitute.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError("--ask needs a terminal to ask on; give the aims with --aim")
    typed: list[str] = []
    while aim := click.prompt(QUESTION, default="", show_default=False, err=True).strip():
        try:
            check_aims([*given, *typed, aim])
        except UsageError as problem:
            say(str(problem))
            continue
        typed.append(aim)
    return typed


def _worded(aims: list[str], config: RunConfig) -> list[GivenWording]:
    from constitute.editing.describe import run_describe
    from constitute.progress import open_progress

    with open_progress() as progress:
        return run_describe(aims, config, progress)


def _told(output: Path, text: str, words: list[tuple[str, str]], skipped: int) -> int:
    """Say what was written and what comes next; the exit code."""
    from constitute.cli.text import counted, say
    from constitute.constitution.read import parse_constitution
    from constitute.errors import ExitCode

    loaded = parse_constitution(text.encode(), output)
    for aim, reason in words:
        if reason:
            say(f"not written by the model: {aim}: {reason}")
    if skipped:
        say(f"{skipped} left out: the file says the same already")
    failed = sum(bool(reason) for _, reason in words)
    said = f"{output}: {counted(len(loaded.principles), 'principle')}"
    if failed:
        said += f", {failed} of {len(words)} aims not written by the model and filled from templates"
    say(f"{said}; see them with: constitute constitution show {output}")
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK
