"""`constitute init`: write a constitution, prompts and run.yaml that work as they are."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from constitute.cli import options

PROMPTS = 24


@options.command()
@click.argument(
    "folder", metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False), default=Path(".")
)
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@options.seed
@options.debug
def init(folder: Path, force: bool, seed: int | None) -> None:
    """Write constitution.yaml, prompts.jsonl and run.yaml into DIR (here if absent).

    They work as they are with the embedded model, and are commented for editing.

    \b
    Examples:
      constitute init my-project
      constitute init --force
    """
    from constitute.data.starter import starter_files, write_starter
    from constitute.pocket.world import prompts

    drawn = [prompt.as_prompt() for prompt in prompts("train", n=PROMPTS, seed=seed or 0)]
    for path in write_starter(folder, starter_files(drawn), force=force):
        click.echo(str(path))
    here = "" if folder == Path(".") else f"cd {shlex.quote(str(folder))} && "
    click.echo(
        "\nNext:\n"
        f"  {here}constitute constitution show constitution.yaml\n"
        "  constitute run run.yaml\n"
        "  constitute status --run run",
        err=True,
    )
