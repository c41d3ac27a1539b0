"""`constitute evals gate`: judge eval items by another model, and keep those that it confirms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.errors import ExitCode

if TYPE_CHECKING:
    from constitute.evals.gating.run import GatedSet


@options.command()
@options.compose(options.common, options.constitution)
@click.option(
    "--judge",
    "judges",
    multiple=True,
    metavar="MODEL",
    help="Model or URL that judges, other than the writer; may be repeated. The run's `judge` if absent.",
)
@click.option("--same-judge", is_flag=True, help="Let the writer judge its own items; the datasheet says so.")
@click.option(
    "--prompt",
    default="own",
    show_default=True,
    help="How labels are asked for: own, as in `evals write`; choice, among the item's answers.",
)
@click.option("--behavior", help="What the items of FILES are about, as a verb phrase.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for what passes of FILES."
)
@click.argument("sets_or_files", metavar="[SET|FILE]...", nargs=-1, type=click.Path(path_type=Path))
def gate(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    constitution_file: str | None,
    judges: tuple[str, ...],
    same_judge: bool,
    prompt: str,
    behavior: str | None,
    out: Path | None,
    sets_or_files: tuple[Path, ...],
) -> int:
    """Judge whether each item's label is right and whether it is about the behaviour; keep those that pass.

    Without a SET, all that the run has written. What passes takes the set's place, and the set as written
    stays in RUN/evals/ungated. Another call with another judge adds to the record: an item then has to pass
    with both. The exit code is 4 where fewer than half of the items stay.

    \b
    Examples:
      constitute evals gate --judge smollm2
      constitute evals gate liberal.jsonl --judge smollm2 --behavior "is politically liberal" --out gated
    """
    from constitute.evals.gating.run import gate_sets, require_kept
    from constitute.evals.gating.sets import Asking
    from constitute.progress import open_progress

    config = options.configured(run_dir, config_file, sets, {"seed": seed, "constitution": constitution_file})
    asking = Asking(prompt=prompt, same_judge=same_judge, behavior=behavior, out=out)
    with open_progress(as_json) as progress:
        gated = gate_sets(config, sets_or_files, judges, asking, progress=progress)
    print_gated(gated, as_json)
    require_kept(gated)
    failed = any(judge.counts["failed"] for one in gated for judge in one.gate.judges)
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK


def print_gated(gated: Sequence[GatedSet], as_json: bool) -> None:
    """What came through, then each judge's figures, then agreement by band of the written confidence."""
    from constitute.cli.text import counted_reasons, harmless, table

    if as_json:
        for one in gated:
            click.echo(json.dumps({"event": "result", **one.model_dump(mode="json", exclude={"items"})}))
        return
    rows = [
        (one.name, one.gate.candidates, counted_reasons(one.gate.dropped), one.gate.kept) for one in gated
    ]
    click.echo(table(("set", "items", "dropped", "kept"), rows) + "\n")
    figures = [
        (
            one.name,
            found.judge.name,
            found.agreement.text(),
            found.kappa.text(),
            found.relevant.text(),
            found.spearman.text(),
            found.counts["abstain"] + found.counts["failed"] + found.orders_disagree,
        )
        for one in gated
        for found in one.gate.judges
    ]
    head = ("set", "judge", "labels confirmed", "kappa", "about it", "Spearman", "unclear")
    click.echo(table(head, figures) + "\n")
    bands = [
        (one.name, found.judge.name, f"{band.low:.3f} to {band.high:.3f}", band.agreement.text())
        for one in gated
        for found in one.gate.judges
        for band in found.bands
    ]
    if bands:
        click.echo(table(("set", "judge", "written confidence", "labels confirmed"), bands) + "\n")
    for one in gated:
        told = f"{one.name}: Krippendorff's alpha of judges and written labels {one.gate.alpha.text()}"
        if one.gate.alpha_judges is not None:
            told += f", of the judges alone {one.gate.alpha_judges.text()}"
        click.echo(harmless(told))
        for found in one.gate.judges:
            if found.people is not None:
                click.echo(
                    harmless(f"{one.name}: kappa of {found.judge.name} and people {found.people.text()}")
                )
            if found.reasons:
                said = f"{one.name}: {found.judge.name} said nothing of {counted_reasons(found.reasons)}"
                click.echo(harmless(said), err=True)
