"""`constitute constitution import` and `export`: other people's formats in, and out again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.cli.text import counted, said_if_slow, say
from constitute.constitution.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from constitute.config import RunConfig
    from constitute.constitution.formats.base import LeftOut
    from constitute.types import Constitution

SHOWN = 5

output = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=options.in_a_folder,
    help="File to write; stdout if absent.",
)


@options.command(name="import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@output
@click.option("--name", default="", help="Name of the constitution; from the file if absent.")
@click.option("--format", "kind", default="", help=f"Read FILES as this format: {', '.join(FORMATS)}.")
@click.option(
    "--show-left-out", is_flag=True, help="List every part of a text that belongs to no principle, and why."
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Constitution to append to, comments kept.",
)
@options.force
@options.compose(options.model, options.cache, options.config_file, options.sets, options.debug)
def import_(
    files: tuple[Path, ...],
    output: Path | None,
    name: str,
    kind: str,
    show_left_out: bool,
    into: Path | None,
    force: bool,
    model: str | None,
    cache_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
) -> int:
    """Read FILES in a public format, or any prose in English, and write one constitution as YAML.

    Of prose, the sentences that ask something of a model become principles; how much of the text that is,
    and what was left out, is said. The OpenAI Model Spec keeps its ids, levels and compared answers. A file
    of critique and revision instructions and a file of comparisons may be given together. With --into the
    principles are appended to a constitution, of which every byte is kept; one that it says already, in
    text and forms, is skipped, and an id that is taken gets a number. One that you took out since an earlier
    import is added again, and the command says that it may be. With --model the model writes the
    forms that the files do not give, and marks those principles `draft: true` for you to read.

    \b
    Examples:
      constitute constitution import model_spec.md -o spec.yaml --show-left-out
      constitute constitution import principles.md --into mine.yaml
    """
    from constitute.constitution.formats.convert import import_files
    from constitute.constitution.write import loadable
    from constitute.errors import ExitCode, UsageError

    if into is not None and (output is not None or name or force):
        raise click.UsageError("--into writes the file it names; leave out --output, --name and --force")
    if output is not None and output.exists() and not force:
        # Said before a model is asked.
        raise UsageError(f"{output} exists already; give another name, or --force to replace it")
    config = None
    if model or config_file or sets:
        config = options.configured(cache_dir, config_file, sets, {"model": model})
    loaded, notes, left_out = import_files(files, name, kind)
    for note in notes:
        say(f"note: {note}")
    _tell_left_out(left_out, None if show_left_out else SHOWN)
    failed = 0
    if config is not None and config.model is not None:
        loadable(loaded)
        loaded, failed = _drafted(loaded, config)
    if into is not None:
        _append(into, loaded)
    else:
        _write(loadable(loaded), output, force, counted(len(loaded.principles), "principle"))
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK


@options.command(name="export")
@click.argument("file")
@click.option("--format", "kind", required=True, help=f"Format to write: {', '.join(FORMATS)}.")
@output
@options.force
@options.debug
def export_(file: str, kind: str, output: Path | None, force: bool) -> None:
    """Write the constitution FILE in a public format.

    `markdown` is a page for people, with examples, that is read back without loss; `list` the bare texts.

    \b
    Examples:
      constitute constitution export assistant --format markdown -o assistant.md
      constitute constitution export my.yaml --format cai-revise -o CritiqueRevisionInstructions.json
    """
    from constitute.constitution.formats.convert import export
    from constitute.constitution.read import load_constitution

    loaded = load_constitution(file)
    text, notes = export(loaded, kind)
    for note in notes:
        say(f"note: {note}")
    _write(text, output, force, counted(len(loaded.principles), "principle"))


def _tell_left_out(left_out: Mapping[Path, Sequence[LeftOut]], most: int | None) -> None:
    """The first parts that are left out of each file, or with `most` None all of them."""
    from constitute.strict_yaml import shorten

    for path, parts in left_out.items():
        for part in parts[:most]:
            say(f"  {path}:{part.line}: {part.reason}: {shorten(part.text, 80 if most else 1000)}")
        if most is not None and len(parts) > most:
            say(f"  and {len(parts) - most} more; see them with --show-left-out")


def _drafted(loaded: Constitution, config: RunConfig) -> tuple[Constitution, int]:
    """The constitution with forms that the model wrote, and how many principles it did not write any for."""
    from constitute.editing.describe import draft_forms
    from constitute.progress import open_progress

    with open_progress() as progress:
        drafted, failed = draft_forms(loaded, config, progress)
    for identity, reason in list(failed.items())[:SHOWN]:
        say(f"not written by the model: {identity}: {reason}")
    count = sum(p.draft for p in drafted.principles)
    say(
        f"{counted(count, 'principle')} with forms that the model wrote, marked draft: true"
        + (f"; {len(failed)} keep the templates' forms" if failed else "")
    )
    return drafted, len(failed)


def _append(into: Path, loaded: Constitution) -> None:
    from constitute.constitution.edit import append_to_file

    with said_if_slow(f"reading {into}, and reading it again with what is added"):
        added, skipped = append_to_file(into, loaded.principles)
    there = f", {skipped} there already" if skipped else ""
    say(f"{into}: {counted(added, 'principle')} added at the end{there}")
    if added and skipped:
        # The file does not keep what was taken out of it.
        say(
            "  what was added was not in the file: it is new, or was taken out or changed since an earlier "
            "import; read it before you keep it"
        )


def _write(text: str, output: Path | None, force: bool, what: str) -> None:
    from constitute.files import write_new

    if output is None:
        click.echo(text, nl=False)
        return
    write_new(output, text, force=force)
    say(f"{output}: {what}")
