"""`constitute constitution`: the group, and its commands show, check and set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from constitute.cli import options
from constitute.cli.constitution.attribute import attribute
from constitute.cli.constitution.compare import compare
from constitute.cli.constitution.convert import export_, import_
from constitute.cli.constitution.diff import diff
from constitute.cli.constitution.examples import examples, keep
from constitute.cli.constitution.lint import lint
from constitute.cli.constitution.new import new
from constitute.cli.constitution.preview import preview
from constitute.cli.constitution.recover import recover
from constitute.cli.constitution.trial import trial
from constitute.cli.text import harmless, said_if_slow, say


@options.group()
def constitution() -> None:
    """Write constitutions, check them, and see what an edit changes.

    \b
    Examples:
      constitute constitution show assistant
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
      constitute constitution check assistant --json
    """
    from constitute.constitution.identity import constitution_hash
    from constitute.constitution.read import load_constitution

    with said_if_slow(f"reading {file}"):
        loaded = load_constitution(file)
    row = {"name": loaded.name, "principles": len(loaded.principles), "hash": constitution_hash(loaded)}
    if as_json:
        click.echo(json.dumps(row, ensure_ascii=False))
    else:
        said = f"{loaded.name}: {row['principles']} principles, hash {constitution_hash(loaded)[:16]}"
        click.echo(harmless(said))


@constitution.command()
@click.argument("file")
@click.option("--principle", "ids", multiple=True, callback=options.names, metavar="ID[,ID]",
              help="Only this principle; may be repeated.")  # fmt: skip
@click.option("--tag", "tags", multiple=True, help="Only principles with this tag; may be repeated.")
@click.option("--model", help="Count tokens as this model does: folder, Hub name or 'smollm2'.")
@click.option("--tokenizer", help="Count tokens with this tokenizer folder or Hub name.")
@options.as_json
@options.debug
def show(
    file: str,
    ids: list[str],
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
      constitute constitution show assistant --model smollm2
      constitute constitution show my.yaml --principle no-insults --json
    """
    from constitute.constitution.read import parse_whole
    from constitute.constitution.show import as_text, filled_forms, pick, principle_rows, totals
    from constitute.packaged import find
    from constitute.strict_yaml import read_bytes

    path = find(file, "constitutions", ".yaml")
    data = read_bytes(path)
    with said_if_slow(f"reading {path}"):
        whole, root = parse_whole(data, path)
    chosen = pick(whole, ids, tags)
    rows = principle_rows(chosen, filled_forms(root), whole, _counter(model, tokenizer))
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        click.echo(json.dumps({"totals": totals(rows)}))
    else:
        click.echo(harmless(as_text(whole, rows)))


@constitution.command(name="set", context_settings={"ignore_unknown_options": True})
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("principle_id")
@click.argument("key")
@click.argument("value")
@options.debug
def set_(file: Path, principle_id: str, key: str, value: str) -> None:
    """Set KEY of the principle PRINCIPLE_ID in FILE to VALUE and show the change word by word.

    KEY is text, critique, revise, compare, opposite, weight or priority, which is one of the levels of FILE.
    Comments and all else in FILE stay as they are.

    \b
    Examples:
      constitute constitution set my.yaml be-brief weight 2
      constitute constitution set my.yaml be-brief priority guideline
      constitute constitution set my.yaml be-brief compare "Which reply is shorter?"
    """
    from constitute.constitution.edit import left_behind, set_in_file, still_said
    from constitute.editing.words import brief, plain, word_diff

    with said_if_slow(f"reading {file}, and reading it again with the change"):
        change = set_in_file(file, principle_id, key, value)
    if change is None:
        say(f"{file}: {principle_id} {key} is that already")
        return
    runs = brief(word_diff(*change))
    click.echo(harmless(f"{principle_id} {key}: {plain(runs)}".replace("\n", " ")))
    forms = left_behind(file, principle_id) if key == "text" else ()
    if forms:
        say(still_said(forms))


@constitution.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--others", is_flag=True, help="Remove all others, and keep these.")
@options.debug
def remove(file: Path, ids: tuple[str, ...], others: bool) -> None:
    """Remove the principles ID... from FILE; every other line stays as it is.

    \b
    Examples:
      constitute constitution remove my.yaml be-brief
      constitute constitution remove spec.yaml do_not_lie protect_privacy --others
    """
    from constitute.cli.text import counted
    from constitute.constitution.remove import remove_from_file

    gone, left = remove_from_file(file, ids, keep=others)
    say(f"{file}: {counted(gone, 'principle')} removed, {left} left")


def _counter(model: str | None, tokenizer: str | None) -> Callable[[str], int] | None:
    """How many tokens a text has for the model; only its tokenizer is loaded."""
    from constitute.errors import UsageError
    from constitute.urls import is_url

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


for command in (
    new,
    import_,
    export_,
    lint,
    preview,
    trial,
    examples,
    keep,
    diff,
    attribute,
    recover,
    compare,
):
    constitution.add_command(command)
