"""`constitute data`: what files of data hold, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.data.inspect import Inspected, Lengths, Reason
    from constitute.data.overlap import Overlaps

_USES = {
    "prompts": "prompts (--prompts)",
    "pairs": "pairs to label (--pairs)",
    "preferences": "pairs to train on (train reward, dpo)",
    "conversations": "answers to imitate (train sft)",
}

# Overlaps in the table; --list writes all.
_SHOWN = 10


@options.group()
def data() -> None:
    """Say what files of data hold, and what they share with eval sets.

    \b
    Examples:
      constitute data overlap train.jsonl.gz evals/
      constitute data inspect train.jsonl.gz
      constitute data inspect 'data/*.parquet' --json
    """


@data.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--model", help="Count lengths in this model's tokens instead of words.")
@click.option(
    "--near-duplicates",
    "near",
    type=click.FloatRange(0, 1, min_open=True),
    help="Also count prompts that share so much (Jaccard index of runs of five words) with an earlier one.",
)
@options.compose(options.limit, options.config_file, options.sets, options.as_json, options.debug)
def inspect(
    files: tuple[str, ...],
    model: str | None,
    near: float | None,
    limit: int | None,
    config_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what each FILE holds and what would be used of it, before anything runs.

    A FILE is a file, a folder, a glob in quotes, or a Hub data set. It says which public shape rows were
    recognised as, how many prompts, pairs and answers they are, lengths, repeated rows, ties, scripts, and
    what would be left out and why. `--set read.…` changes how shapes are read.

    \b
    Examples:
      constitute data inspect harmless-base/train.jsonl.gz
      constitute data inspect 'data/*.parquet' --model smollm2 --json
      constitute data inspect shp.jsonl --set read.min_ratio=2 --near-duplicates 0.8
    """
    from constitute.data.inspect import inspect as look
    from constitute.data.inspect import words

    reading = options.settled(None, config_file, sets, {}).read
    measure, unit = (words, "words") if model is None else (_tokens(model), "tokens")
    for at, file in enumerate(files):
        found = look(file, reading=reading, limit=limit, measure=measure, unit=unit, near=near)
        if as_json:
            click.echo(json.dumps(found.model_dump(mode="json"), ensure_ascii=False))
        else:
            click.echo(("\n" if at else "") + _text(found))


@data.command()
@click.argument("file", metavar="FILE")
@click.argument("evals", metavar="EVALS...", nargs=-1, required=True)
@click.option(
    "--list",
    "list_file",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=options.in_a_folder,
    help="Write every row found here, a JSON object a line.",
)
@options.compose(options.limit, options.config_file, options.sets, options.as_json, options.debug)
def overlap(
    file: str,
    evals: tuple[str, ...],
    list_file: Path | None,
    limit: int | None,
    config_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Count the rows of FILE that share text with EVALS: 13 words in a row, or a whole short prompt.

    Both take any format that can be read, as files, folders, globs or Hub data sets. EVALS are held in
    memory, FILE is not. A wording that many eval items share, such as the frame of their question, is
    nobody's text. `--set read.overlap.…` changes what counts.

    \b
    Examples:
      constitute data overlap train.jsonl.gz 'evals/**/*.jsonl'
      constitute data overlap train.parquet BBQ/data --list overlaps.jsonl --set read.overlap.words=8
    """
    from constitute.data.overlap import overlaps
    from constitute.files import write_text

    cfg = options.settled(None, config_file, sets, {"read.overlap.against": list(evals)}).read.overlap
    found = overlaps(file, cfg, limit)
    if list_file is not None:
        write_text(list_file, "".join(f"{each.model_dump_json()}\n" for each in found.found))
    if as_json:
        click.echo(json.dumps(found.model_dump(mode="json"), ensure_ascii=False))
    else:
        click.echo(_overlap_text(found))


def _overlap_text(found: Overlaps) -> str:
    from constitute.cli.text import counted, harmless, table
    from constitute.strict_yaml import shorten

    head = harmless(f"{found.source}: {found.share.text(4)} of the rows share text with an eval item")
    rest = f"{counted(found.items, 'eval item')}, {found.items_touched} of them the first that a row touches"
    rest += f"; {counted(found.bad, 'line')} not readable" if found.bad else ""
    rows = [(each.where, each.item, shorten(each.words)) for each in found.found[:_SHOWN]]
    return "\n\n".join(
        [f"{head}\n{rest}", *([table(("row", "eval item", "words in common"), rows)] if rows else [])]
    )


def _tokens(model: str) -> Callable[[str], int]:
    from constitute.engines.tokenizer import load_tokenizer
    from constitute.packaged import model_path

    tokenizer = load_tokenizer(model_path(model))
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _text(found: Inspected) -> str:
    from constitute.cli.text import counted, harmless, table

    files = "" if found.files < 2 else f" in {found.files} files"
    parts = [harmless(f"{found.source}: {counted(found.rows, 'row')}{files}")]
    shapes = [(shape.name, shape.rows, shape.about, ", ".join(shape.keys)) for shape in found.shapes]
    if shapes:
        parts.append(table(("shape", "rows", "what it is", "recognised by"), shapes))
    parts.append(table(("used as", "rows"), [(_USES[used.use], used.rows) for used in found.uses]))
    reasons = [("not readable", *_cells(reason)) for reason in found.bad]
    for used in found.uses:
        reasons += [(used.use, *_cells(reason)) for reason in used.left_out]
    if reasons:
        parts.append(table(("left out of", "times", "why", "first"), reasons))
    return "\n\n".join([*parts, table(("figure", "value"), _figures(found))])


def _cells(reason: Reason) -> tuple[int, str, str]:
    return reason.number, reason.reason, reason.first


def _figures(found: Inspected) -> list[tuple[str, str]]:
    rows = [
        (f"{found.unit} a prompt", _lengths(found.prompts)),
        (f"{found.unit} an answer", _lengths(found.answers)),
        ("repeated prompts", str(found.repeated_prompts)),
    ]
    if found.near_prompts is not None:
        rows.append(("repeated or nearly repeated prompts", str(found.near_prompts)))
    if found.most_pairs_of_a_prompt:
        rows += [
            ("repeated pairs", str(found.repeated_pairs)),
            ("most pairs of one prompt", str(found.most_pairs_of_a_prompt)),
            ("ties", str(found.ties)),
        ]
    if found.longer_chosen is not None:
        rows.append(("the longer answer is chosen", found.longer_chosen.text()))
    scripts = ", ".join(f"{name} {number}" for name, number in found.scripts.items())
    return [*rows, ("script of the prompts", scripts or "-")]


def _lengths(found: Lengths | None) -> str:
    if found is None:
        return "-"
    return f"median {found.median}, 95 % at most {found.p95}, longest {found.most} (n = {found.n})"
