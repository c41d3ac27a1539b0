"""`constitute constitution attribute`: which principle decides what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.editing.attribute.figures import Attribution
    from constitute.editing.attribute.run import Attributed

# Conflicts that the terminal shows.
MOST = 8
file_out = click.Path(path_type=Path, dir_okay=False)


@options.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--fill", is_flag=True, help="Ask the model for votes that are missing.")
@options.compose(options.model, options.constitution, options.limit, options.config_file)
@click.option("--margin", type=float, help="Least |2 P(A) - 1| of a confident vote; 0.2 if absent.")
@click.option(
    "--out",
    type=file_out,
    callback=options.in_a_folder,
    help="Write the heat map and tables as one HTML page.",
)
@click.option(
    "--csv", "csv_file", type=file_out, callback=options.in_a_folder, help="Write the matrix as CSV."
)
@options.compose(options.sets, options.as_json, options.debug)
def attribute(
    run_dir: Path,
    fill: bool,
    model: str | None,
    constitution_file: str | None,
    limit: int | None,
    config_file: Path | None,
    margin: float | None,
    out: Path | None,
    csv_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> int:
    """Show which principle decides which of the labelled pairs of RUN.

    A principle decides a pair when its vote is confident and pushes hardest towards the label. Where two
    principles conflict, how often the label went with each, and what another label.rule would have changed;
    --set label.rule=priority shows everything as that rule would have it, and asks nothing. Best on labels
    by every principle (label.principles=all); votes that were not cast are missing.

    \b
    Examples:
      constitute constitution attribute run --out attribution.html
      constitute constitution attribute run --fill --model smollm2 --csv votes.csv
      constitute constitution attribute run --set label.rule=priority --set label.threshold=0.2
    """
    from constitute.cli.text import say
    from constitute.editing.attribute.figures import MARGIN
    from constitute.editing.attribute.run import attribute_run
    from constitute.errors import ExitCode, UsageError
    from constitute.files import write_text
    from constitute.progress import open_progress
    from constitute.report.heatmap import as_csv, write_heatmap

    if (model or constitution_file) and not fill:
        raise UsageError("--model and --constitution are for --fill, which asks for votes that are missing")
    wanted = {"model": model, "judge": model, "constitution": constitution_file}
    config = options.configured(run_dir, config_file, sets, wanted)
    least = MARGIN if margin is None else margin
    with open_progress(as_json) as progress:
        done = attribute_run(config, fill=fill, margin=least, limit=limit, progress=progress)
    for file in filter(None, (out, csv_file)):
        file.parent.mkdir(parents=True, exist_ok=True)
    missing = "" if done.unfinished is None else done.unfinished.sentence
    if missing:
        say(missing, red=True)
    if out is not None:
        say(f"wrote {write_heatmap(done.figures, run_dir.name or 'run', out, missing)}")
    if csv_file is not None:
        say(f"wrote {write_text(csv_file, as_csv(done.figures))}")
    if as_json:
        result: dict[str, Any] = {
            "event": "result",
            "asked": done.asked,
            "reused": done.reused,
            "without_label": done.without_label,
            "unfinished": None if done.unfinished is None else done.unfinished.model_dump(mode="json"),
        }
        result["unfilled"] = [(row.row_id, row.status, row.reason) for row in done.unfilled]
        figures = done.figures.model_dump(mode="json")
        click.echo(json.dumps(result | figures, ensure_ascii=False))
    else:
        click.echo(_text(done))
    return ExitCode.ROWS_FAILED if any(row.status == "failed" for row in done.unfilled) else ExitCode.OK


def _text(done: Attributed) -> str:
    from constitute.cli.text import harmless, table
    from constitute.report.heatmap import sentences

    figures = done.figures
    head = ("principle", "weight", "decides", "change of P(A)", "flips without it", "agrees")
    more = ("confidence", "order flips", "silent", "missing")
    rows = [
        (
            i.principle_id,
            i.weight,
            i.decides.text(2),
            i.change.text(3),
            i.without.value,
            i.agrees.value,
            i.confidence,
            i.order_flips.value,
            i.silent.value,
            i.missing,
        )
        for i in sorted(figures.influences, key=lambda i: (-(i.decides.value or 0.0), i.principle_id))
    ]
    lines = sentences(figures)
    if done.without_label:
        lines.append(f"{done.without_label} rows of the run have no label and are left out")
    lines.append("shares and means with their 95 % intervals:")
    blocks = ["\n".join(map(harmless, lines)), table((*head, *more), rows)]
    blocks += _conflicts(figures)
    nobody = [c for c in figures.columns if not c.confident]
    if nobody:
        shown = [(c.id, c.p_a, " ".join(c.prompt.split())[:60]) for c in nobody[:10]]
        blocks.append(table((f"no confident vote ({len(nobody)})", "P(A)", "prompt"), shown))
    if done.unfilled:
        unfilled = [(row.row_id, row.status, row.reason) for row in done.unfilled[:10]]
        blocks.append(table(("not filled", "status", "reason"), unfilled))
    return "\n\n".join(blocks)


def _conflicts(figures: Attribution) -> list[str]:
    """How conflicts were decided, and what another rule would have changed."""
    from constitute.cli.text import table

    blocks = []
    if figures.conflicts:
        rows = [
            (c.first, c.second, c.against.text(2), c.with_first.text(2), c.with_second.text(2))
            for c in figures.conflicts[:MOST]
        ]
        kinds = ("confident both ways", "label with the first", "label with the second")
        blocks.append(table(("principle", "against", *kinds), rows))
        if len(figures.conflicts) > MOST:
            blocks[-1] += f"\nand {len(figures.conflicts) - MOST} more; --json has all"
    others = [(o.rule, o.turned, o.turns.text(2), o.change.text(3)) for o in figures.others]
    head = ("under another rule", "labels that turn", "share", "|change of P(A)|, mean")
    return [*blocks, table(head, others)]
