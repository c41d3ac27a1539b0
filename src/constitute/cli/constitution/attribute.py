"""`constitute constitution attribute`: which principle decides what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.editing.attribute.run import Attributed

FAILED_ROWS = 3
file_out = click.Path(path_type=Path, dir_okay=False)


@options.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--fill", is_flag=True, help="Ask the model for votes that are missing.")
@options.compose(options.model, options.constitution, options.limit)
@click.option("--margin", type=float, help="Least |2 P(A) - 1| of a confident vote; 0.2 if absent.")
@click.option("--out", type=file_out, help="Write the heat map and tables as one HTML page.")
@click.option("--csv", "csv_file", type=file_out, help="Write the matrix as CSV.")
@options.compose(options.sets, options.as_json, options.debug)
def attribute(
    run_dir: Path,
    fill: bool,
    model: str | None,
    constitution_file: str | None,
    limit: int | None,
    margin: float | None,
    out: Path | None,
    csv_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> int:
    """Show which principle decides which of the labelled pairs of RUN.

    A principle decides a pair when its vote is confident and pushes hardest towards the label. Best on
    labels by every principle (label.principles=all); votes that were not cast are missing.

    \b
    Examples:
      constitute constitution attribute run --out attribution.html
      constitute constitution attribute run --fill --model pocket --csv votes.csv
    """
    from constitute.editing.attribute.attribution import MARGIN
    from constitute.editing.attribute.run import attribute_run
    from constitute.errors import UsageError
    from constitute.files import write_text
    from constitute.progress import open_progress
    from constitute.report.heatmap import as_csv, write_heatmap

    if (model or constitution_file) and not fill:
        raise UsageError("--model and --constitution are for --fill, which asks for votes that are missing")
    wanted = {"model": model, "judge": model, "constitution": constitution_file}
    config = options.configured(run_dir, None, sets, wanted)

    def say(text: str) -> None:
        click.echo(text, err=True)

    with open_progress(as_json) as progress:
        least = MARGIN if margin is None else margin
        done = attribute_run(config, fill=fill, margin=least, limit=limit, say=say, progress=progress)
    for file in filter(None, (out, csv_file)):
        file.parent.mkdir(parents=True, exist_ok=True)
    if out is not None:
        say(f"wrote {write_heatmap(done.figures, run_dir.name or 'run', out)}")
    if csv_file is not None:
        say(f"wrote {write_text(csv_file, as_csv(done.figures))}")
    if as_json:
        result = {"event": "result", "asked": done.asked, "reused": done.reused, "unfilled": done.unfilled}
        figures = done.figures.model_dump(mode="json")
        click.echo(json.dumps(result | {"without_label": done.without_label} | figures, ensure_ascii=False))
    else:
        click.echo(_text(done))
    return FAILED_ROWS if done.unfilled else 0


def _text(done: Attributed) -> str:
    from constitute.cli.text import harmless, table
    from constitute.report.heatmap import percent, sentences, short

    figures = done.figures
    head = ("principle", "weight", "decides (95 %)", "change of P(A)", "flips without it", "agrees")
    more = ("confidence", "order flips", "silent", "missing")
    rows = [
        (
            i.principle_id,
            i.weight,
            percent(i.decides),
            "-" if i.change is None else "{:.3f} ({:.3f} to {:.3f})".format(*i.change),
            short(i.without),
            short(i.agrees),
            i.confidence,
            short(i.order_flips),
            short(i.silent),
            i.missing,
        )
        for i in sorted(figures.influences, key=lambda i: (-i.decides.count, i.principle_id))
    ]
    lines = sentences(figures)
    if done.without_label:
        lines.append(f"{done.without_label} rows of the run have no label and are left out")
    blocks = ["\n".join(map(harmless, lines)), table((*head, *more), rows)]
    if figures.conflicts:
        conflicts = [(c.first, c.second, percent(c.against)) for c in figures.conflicts[:8]]
        blocks.append(table(("principle", "against", "confident both ways (95 %)"), conflicts))
    nobody = [c for c in figures.columns if not c.confident]
    if nobody:
        shown = [(c.id, c.p_a, " ".join(c.prompt.split())[:60]) for c in nobody[:10]]
        blocks.append(table((f"no confident vote ({len(nobody)})", "P(A)", "prompt"), shown))
    if done.unfilled:
        blocks.append(table(("not filled", "reason"), done.unfilled[:10]))
    return "\n\n".join(blocks)
