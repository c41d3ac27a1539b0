"""`constitute export`: write SFT and preference data sets from a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.config.data import EXPORT_FORMATS

if TYPE_CHECKING:
    from constitute.data.card import Exported


@options.command()
@options.run_dir
@click.option(
    "--what",
    type=click.Choice(["all", "sft", "preferences", "prompts"]),
    default="all",
    show_default=True,
    help="Which sets; all writes sft and preferences where the run has rows for them.",
)
@click.option("--format", "kind", help=f"One of {', '.join(EXPORT_FORMATS)}.")
@click.option(
    "--revisions",
    type=click.Choice(["last", "all", "best", "none"]),
    help="Imitate the last revision, every one, what the labels prefer, or the first response.",
)
@click.option("--min-margin", type=click.FloatRange(0, 1), help="Leave out pairs with a smaller |2 P - 1|.")
@click.option("--drop-order-flips", is_flag=True, help="Leave out pairs whose votes change with the order.")
@click.option(
    "--exclude",
    type=click.Path(dir_okay=False),
    help="File of ids to leave out, of rows or prompts: one a line, or JSON lines with an id.",
)
@options.decontaminate
@click.option(
    "--reviewed",
    type=click.Choice(["none", "only", "override"]),
    help="What people chose in reviews: not used, the only pairs, or the label where there is one.",
)
@click.option("--licence", help="Licence named in the card, as the Hub names it, such as cc-by-4.0.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write; RUN/export if absent."
)
@click.option(
    "--accept",
    type=click.Choice(["all", "both_orders"]),
    help="SFT: every revision, or those that the judge prefers in both orders.",
)
@options.compose(options.gates, options.config_file, options.sets, options.as_json, options.debug)
def export(
    run_dir: Path,
    what: str,
    kind: str | None,
    revisions: str | None,
    min_margin: float | None,
    drop_order_flips: bool,
    exclude: str | None,
    eval_sets: tuple[str, ...],
    reviewed: str | None,
    licence: str | None,
    out: Path | None,
    accept: str | None,
    gates: dict[str, float | None],
    config_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write SFT and preference data sets from a run, with a data card beside them.

    SFT rows hold `messages`; preference rows `prompt`, `chosen`, `rejected` and the soft label
    `chosen_prob`. The same run gives the same files, byte for byte. `train` reads what was written last.
    What is left out is counted, and named row by row in removed.jsonl. Where labels do not pass a gate, the
    files are written with that said beside them, and the exit code is 4.

    \b
    Examples:
      constitute export --run run
      constitute export --run run --what sft --revisions all --format parquet
      constitute export --run run --accept both_orders --set export.near_duplicates=0.8
      constitute export --run run --decontaminate 'evals/*.jsonl'
      constitute export --run run --min-margin 0.2 --drop-order-flips --exclude bad-ids.txt
    """
    from constitute.data.export import KINDS, export_run
    from constitute.data.sets import unmet_gates
    from constitute.errors import GateFailed
    from constitute.stages.verdict import joined

    wanted = {
        "export.format": kind,
        "export.revisions": revisions,
        "export.accept": accept,
        "export.min_margin": min_margin,
        "export.drop_order_flips": drop_order_flips or None,
        "export.exclude": exclude,
        "export.overlap.against": list(eval_sets) or None,
        "export.reviewed": reviewed,
        "export.licence": licence,
        **gates,
    }
    config = options.configured(run_dir, config_file, sets, wanted)
    kinds = () if what == "all" else tuple(name for name in KINDS if name == what)
    written = export_run(config.run, config.export, kinds=kinds, out=out, gates=config.gates)
    _print(written, as_json)
    if unmet := {sentence: None for part in written for sentence in unmet_gates(part.path)}:
        raise GateFailed(f"{joined(list(unmet))} (the files are written, and say so)")


def _print(written: Sequence[Exported], as_json: bool) -> None:
    """The files on stdout; on stderr what they hold, what was left out, and what to distrust."""
    from constitute.cli.text import say
    from constitute.data.sets import labels_verdict

    for part in written:
        if as_json:
            click.echo(json.dumps(part.model_dump(mode="json"), ensure_ascii=False))
            continue
        click.echo(str(part.path))
        ended = ", ".join(f"{number} {status}" for status, number in part.counts.items())
        more = "".join(f"; left out: {number} {reason}" for reason, number in part.left_out.items())
        more += "".join(
            f"; last revision kept: {number} {reason}" for reason, number in part.unlabelled.items()
        )
        click.echo(f"{part.kind}: {part.rows} rows ({part.stage}: {ended}{more})", err=True)
        if part.unfinished:
            missing = "; ".join(each.sentence for each in part.unfinished)
            say(f"{part.kind} is not complete: {missing}, then export again", red=True)
    for part in written[:1]:
        if part.unmet:
            shown = ", ".join(part.unmet[:5]) + (", …" if len(part.unmet) > 5 else "")
            say(f"the exclude list names ids that no row of these sets has: {len(part.unmet)}, {shown}")
    for sentence in sorted({labels_verdict(part.path) for part in written} - {""}):
        say(sentence, red=True)
