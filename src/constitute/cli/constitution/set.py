"""`constitute constitution set`: change one value of one principle and leave the rest of the file alone."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options


@options.command(name="set", context_settings={"ignore_unknown_options": True})
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("principle_id")
@click.argument("key")
@click.argument("value")
@options.debug
def set_(file: Path, principle_id: str, key: str, value: str) -> None:
    """Set KEY of the principle PRINCIPLE_ID in FILE to VALUE and show the change word by word.

    KEY is text, critique, revise, compare or weight. Comments and all else in FILE stay as they are.

    \b
    Examples:
      constitute constitution set my.yaml be-brief weight 2
      constitute constitution set my.yaml be-brief compare "Which reply is shorter?"
    """
    from constitute.cli.text import harmless
    from constitute.constitution.edit import set_in_file
    from constitute.editing.words import brief, plain, word_diff

    change = set_in_file(file, principle_id, key, value)
    if change is None:
        click.echo(f"{file}: {principle_id} {key} is that already", err=True)
        return
    runs = brief(word_diff(*change))
    click.echo(harmless(f"{principle_id} {key}: {plain(runs)}".replace("\n", " ")))
