"""`constitute constitution show`: every principle as a model reads it, and how long that is."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from constitute.cli import options

Count = Callable[[str], int]


@options.command()
@click.argument("file")
@click.option("--principle", "ids", multiple=True, metavar="ID", help="Only this principle; may be repeated.")
@click.option("--tag", "tags", multiple=True, help="Only principles with this tag; may be repeated.")
@click.option("--model", help="Count tokens as this model does: folder, Hub name or 'pocket'.")
@click.option("--tokenizer", help="Count tokens with this tokenizer folder or Hub name.")
@options.as_json
@options.debug
def show(
    file: str,
    ids: tuple[str, ...],
    tags: tuple[str, ...],
    model: str | None,
    tokenizer: str | None,
    as_json: bool,
) -> None:
    """Print the three forms of every principle of FILE as the model will read them.

    Each form says whether it was written in the file or filled from its template, and its length in words,
    with --model or --tokenizer in tokens too. Placeholders stand for the conversation and the replies, which
    the lengths leave out. The chance to be drawn is that among all principles of FILE.

    \b
    Examples:
      constitute constitution show harmless --model pocket
      constitute constitution show my.yaml --principle no-insults --json
    """
    from constitute.cli.text import harmless
    from constitute.constitution.read import parse_constitution, select
    from constitute.constitution.show import as_text, filled_forms, pick, principle_rows, totals
    from constitute.packaged import find
    from constitute.strict_yaml import read_bytes

    path = find(file, "constitutions", ".yaml")
    data = read_bytes(path)
    whole = parse_constitution(data, path)
    chosen = pick(select(whole, tags), ids)
    rows = principle_rows(chosen, filled_forms(data), whole, _counter(model, tokenizer))
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        click.echo(json.dumps({"totals": totals(rows)}))
    else:
        click.echo(harmless(as_text(whole, rows)))


def _counter(model: str | None, tokenizer: str | None) -> Count | None:
    """How many tokens a text has for the model; only its tokenizer is loaded."""
    from constitute.engines import is_url
    from constitute.errors import UsageError

    name = tokenizer or model
    if name is None:
        return None
    if is_url(name):
        raise UsageError(
            f"{name} is a server, whose tokenizer is not at hand; name one with --tokenizer FOLDER"
        )
    from constitute.engines.tokenizer import load_tokenizer
    from constitute.packaged import model_path

    loaded = load_tokenizer(model_path(name))
    return lambda text: len(loaded.encode(text, add_special_tokens=False))
