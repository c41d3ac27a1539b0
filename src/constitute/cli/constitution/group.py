"""`constitute constitution`: the group, and its commands check, import and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.cli.constitution.attribute import attribute
from constitute.cli.constitution.compare import compare
from constitute.cli.constitution.diff import diff
from constitute.cli.constitution.lint import lint
from constitute.cli.constitution.new import new
from constitute.cli.constitution.preview import preview
from constitute.cli.constitution.set import set_
from constitute.cli.constitution.show import show
from constitute.constitution.formats import FORMATS

if TYPE_CHECKING:
    from constitute.types import Constitution

output = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; stdout if absent."
)
force = click.option("--force", is_flag=True, help="Replace the output file.")


@options.group()
def constitution() -> None:
    """Write constitutions, check them, and see what an edit changes.

    \b
    Examples:
      constitute constitution show harmless
      constitute constitution check my.yaml
    """


@constitution.command()
@click.argument("file")
@options.as_json
@options.debug
def check(file: str, as_json: bool) -> None:
    """Check that FILE can be used: each problem as file:line:column with its fix, exit code 2.

    \b
    Examples:
      constitute constitution check my.yaml
      constitute constitution check harmless --json
    """
    from constitute.constitution.read import constitution_hash, load_constitution

    loaded = load_constitution(file)
    row = {"name": loaded.name, "principles": len(loaded.principles), "hash": constitution_hash(loaded)}
    if as_json:
        click.echo(json.dumps(row, ensure_ascii=False))
    else:
        click.echo(f"{row['name']}: {row['principles']} principles, hash {constitution_hash(loaded)[:16]}")


@constitution.command(name="import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@output
@click.option("--name", default="", help="Name of the constitution; from the file if absent.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Constitution to append to, comments kept.",
)
@force
@options.debug
def import_(files: tuple[Path, ...], output: Path | None, name: str, into: Path | None, force: bool) -> None:
    """Read FILES in a public format and write one constitution as YAML.

    A file of critique and revision instructions and a file of comparisons may be given together. With
    --into the principles are appended to a constitution, of which every byte is kept; one that it says
    already, in text and forms, is skipped, and an id that is taken gets a number.

    \b
    Examples:
      constitute constitution import CritiqueRevisionInstructions.json RLMadisonInstructions.json -o cai.yaml
      constitute constitution import principles.md --into mine.yaml
    """
    from constitute.constitution.formats.convert import import_constitution
    from constitute.constitution.write import loadable

    if into is not None and (output is not None or name or force):
        raise click.UsageError("--into writes the file it names; leave out --output, --name and --force")
    loaded, notes = import_constitution(files, name)
    if into is not None:
        _append(into, loaded, notes)
        return
    _write(loadable(loaded), output, force, notes, _principles(len(loaded.principles)))


@constitution.command(name="export")
@click.argument("file")
@click.option("--format", "kind", required=True, help=f"Format to write: {', '.join(FORMATS)}.")
@output
@force
@options.debug
def export_(file: str, kind: str, output: Path | None, force: bool) -> None:
    """Write the constitution FILE in a public format.

    \b
    Examples:
      constitute constitution export harmless --format markdown
      constitute constitution export my.yaml --format cai-revise -o CritiqueRevisionInstructions.json
    """
    from constitute.constitution.formats.convert import export
    from constitute.constitution.read import load_constitution

    loaded = load_constitution(file)
    text, notes = export(loaded, kind)
    _write(text, output, force, notes, _principles(len(loaded.principles)))


def _append(into: Path, loaded: Constitution, notes: list[str]) -> None:
    from constitute.constitution.edit import append_to_file

    added, skipped = append_to_file(into, loaded.principles)
    _notes(notes)
    there = f", {skipped} there already" if skipped else ""
    click.echo(f"{into}: {_principles(added)} added{there}", err=True)


def _write(text: str, output: Path | None, force: bool, notes: list[str], what: str) -> None:
    from constitute.files import write_new

    _notes(notes)
    if output is None:
        click.echo(text, nl=False)
        return
    write_new(output, text, force=force)
    click.echo(f"{output}: {what}", err=True)


def _notes(notes: list[str]) -> None:
    from constitute.cli.text import harmless

    for note in notes:
        click.echo(harmless(f"note: {note}"), err=True)


def _principles(count: int) -> str:
    return "1 principle" if count == 1 else f"{count} principles"


for command in (new, show, set_, lint, preview, diff, attribute, compare):
    constitution.add_command(command)
