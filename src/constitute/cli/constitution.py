"""`constitute constitution`: show, check, import and export constitutions."""

from __future__ import annotations

import json
from pathlib import Path

import click

from constitute.cli import options
from constitute.data.constitution_out import WRITERS

output = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; stdout if absent."
)
force = click.option("--force", is_flag=True, help="Replace the output file.")


@click.group()
def constitution() -> None:
    """Show, check, import and export constitutions.

    \b
    Examples:
      constitute constitution show harmless
      constitute constitution check my.yaml
    """


@constitution.command()
@click.argument("file")
@options.as_json
@options.debug
def show(file: str, as_json: bool) -> None:
    """Print the three forms of every principle of FILE as the model will read them.

    \b
    Examples:
      constitute constitution show harmless
      constitute constitution show my.yaml --json
    """
    from constitute.cli.text import harmless
    from constitute.constitution import load_constitution
    from constitute.data.constitution_show import as_text, principle_rows

    loaded = load_constitution(file)
    if as_json:
        for row in principle_rows(loaded):
            click.echo(json.dumps(row, ensure_ascii=False))
    else:
        click.echo(harmless(as_text(loaded)))


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
    from constitute.constitution import constitution_hash, load_constitution

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
@force
@options.debug
def import_(files: tuple[Path, ...], output: Path | None, name: str, force: bool) -> None:
    """Read FILES in a public format and write one constitution as YAML.

    A file of critique and revision instructions and a file of comparisons may be given together.

    \b
    Examples:
      constitute constitution import CritiqueRevisionInstructions.json RLMadisonInstructions.json -o cai.yaml
      constitute constitution import principles.md -o mine.yaml
    """
    from constitute.data.constitution_out import to_yaml
    from constitute.data.constitutions import import_constitution

    loaded, notes = import_constitution(files, name)
    _write(to_yaml(loaded), output, force, notes, f"{len(loaded.principles)} principles")


@constitution.command(name="export")
@click.argument("file")
@click.option("--format", "kind", type=click.Choice(list(WRITERS)), required=True, help="Format to write.")
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
    from constitute.constitution import load_constitution
    from constitute.data.constitution_out import export

    loaded = load_constitution(file)
    text, notes = export(loaded, kind)
    _write(text, output, force, notes, f"{len(loaded.principles)} principles")


def _write(text: str, output: Path | None, force: bool, notes: list[str], what: str) -> None:
    from constitute.data.files import write_new

    for note in notes:
        click.echo(f"note: {note}", err=True)
    if output is None:
        click.echo(text, nl=False)
        return
    write_new(output, text, force=force)
    click.echo(f"{output}: {what}", err=True)
