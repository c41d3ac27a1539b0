"""`constitute prompts`: have a model write prompts, for the other commands to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.errors import ExitCode
from constitute.prompts import METHODS

if TYPE_CHECKING:
    from constitute.prompts.write import WrittenPrompts


@options.group()
def prompts() -> None:
    """Have a model write prompts (arXiv 2202.03286).

    \b
    Examples:
      constitute prompts write --model smollm2 --constitution assistant -n 50
      constitute prompts write --model smollm2 --topic "cooking for many people" -n 50
    """


@prompts.command()
@options.compose(options.common, options.model, options.constitution)
@click.option(
    "--topic", "topics", multiple=True, help="Write about this instead of the principles; may be repeated."
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    callback=options.names,
    metavar="NAME[,NAME]",
    help=f"How prompts are written, in this order: {', '.join(METHODS)}; may be repeated.",
)
@click.option(
    "--examples", help="Prompts to show, in any format of --prompts, with a score each where it is known."
)
@click.option("-n", "wanted", type=click.IntRange(1), help="Prompts wanted of each method.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=options.in_a_folder,
    help="File to write; RUN/prompts/prompts.jsonl if absent.",
)
def write(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    constitution_file: str | None,
    topics: tuple[str, ...],
    methods: Sequence[str],
    examples: str | None,
    wanted: int | None,
    out: Path | None,
) -> int:
    """Write red-team prompts under each principle of a constitution, or a user's messages about topics.

    zero_shot shows nothing, few_shot shows examples of a file or of the constitution, worked shows earlier
    prompts, those whose replies break their principle more often. Repeats and copies of what was shown are
    left out and counted.

    \b
    Examples:
      constitute prompts write --model smollm2 --constitution assistant --method zero_shot,worked -n 50
      constitute prompts write --model smollm2 --topic "cooking for many people" --topic gardens -n 20
    """
    from constitute.progress import open_progress
    from constitute.prompts.write import write_prompts

    given = {
        "seed": seed,
        "model": model,
        "constitution": constitution_file,
        "write_prompts.n": wanted,
        "write_prompts.methods": list(methods) or None,
    }
    config = options.configured(run_dir, config_file, sets, given)
    with open_progress(as_json) as progress:
        written = write_prompts(config, topics, examples, out=out, progress=progress)
    if as_json:
        record = written.model_dump(mode="json", exclude={"prompts", "settings"})
        click.echo(json.dumps({"event": "result", **record}))
    else:
        _print(written)
    failed = any(each.answers["failed"] for each in written.figures)
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK


def _print(written: WrittenPrompts) -> None:
    from constitute.cli.text import counted, counted_reasons, harmless, say, table

    counts = [
        (each.method, *each.answers.values(), each.found, counted_reasons(each.dropped), each.kept)
        for each in written.figures
    ]
    head = ("method", "answers ok", "abstain", "failed", "prompts", "dropped", "kept")
    click.echo(table(head, counts))
    rows = []
    for each in written.figures:
        of = each.diversity
        rows += [
            (each.method, "self-BLEU", of.self_bleu.text()),
            (each.method, "distinct-1", of.distinct_1.text()),
            (each.method, "distinct-2", of.distinct_2.text()),
            (each.method, "near-duplicates left", of.near_duplicates.text()),
            (each.method, f"covered by {counted(of.clusters, 'cluster')}", of.coverage.text()),
        ]
        if each.broken.n:
            rows.append((each.method, "mean P(the reply breaks the principle)", each.broken.text()))
    click.echo("\n" + table(("method", "figure of the kept prompts", "value"), rows))
    for each in written.figures:
        if each.reasons:
            say(harmless(f"{each.method}: no prompt from {counted_reasons(each.reasons)}"))
        if each.unscored:
            say(harmless(f"{each.method}: no score for {counted_reasons(each.unscored)}"))
    say(f"wrote {written.path}; next: constitute generate --prompts {written.path}")
