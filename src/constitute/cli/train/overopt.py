"""`constitute train overopt`: where a higher proxy reward stops helping the gold."""

from __future__ import annotations

import json
from pathlib import Path

import click

from constitute.cli import options

_folder = click.Path(path_type=Path, file_okay=False)


@options.command()
@options.run_dir
@click.option(
    "--ppo", multiple=True, type=_folder, help="Folder of `train ppo`; repeat to compare. RUN/ppo if absent."
)
@click.option("--best-of-n", type=_folder, help="Folder of `train best-of-n`; RUN/best-of-n if absent.")
@click.option("--gold", help="Part of the reward that was measured, not optimised; the only one if absent.")
@click.option("--proxy", help="Score by which best-of-n selects; 'reward' if absent.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=options.in_a_folder,
    help="HTML to write; if absent overopt.html in RUN, or beside the first folder named without --run.",
)
@options.compose(options.as_json, options.debug)
def overopt(
    run_dir: Path,
    ppo: tuple[Path, ...],
    best_of_n: Path | None,
    gold: str | None,
    proxy: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare proxy and gold rewards over the KL, and name the checkpoint to ship.

    The gold is a reward of weight 0, such as the judge or a reward model that was held out. Curves are
    fitted as in arXiv 2210.10760.

    \b
    Examples:
      constitute train overopt --run run --gold judge
      constitute train overopt --ppo policy --ppo policy-2 --best-of-n samples --gold held-out --out gold.html
    """
    from constitute.cli.text import harmless, table
    from constitute.report.overopt import page_of, write_overopt
    from constitute.train.overopt.run import measure_overopt

    named = [*ppo, *([best_of_n] if best_of_n else [])]
    source = click.get_current_context().get_parameter_source("run_dir")
    if named and source is click.core.ParameterSource.DEFAULT:
        # A folder that a training wrote lies in its run.
        run_dir = (named[0] if named[0].name not in ("", "..") else named[0].resolve()).parent
    found = measure_overopt(run_dir, ppo=ppo, best_of_n=best_of_n, gold=gold, proxy=proxy)
    page = page_of(found, run_dir.resolve().name)
    path = write_overopt(page, out or run_dir / "overopt.html")
    if as_json:
        click.echo(json.dumps({"event": "result", "report": str(path), **found.model_dump(mode="json")}))
        return
    for one in page.tables:
        click.echo(f"{harmless(one.title)}\n{table(one.head, one.rows)}")
        click.echo(f"{harmless(one.note)}\n" if one.note else "")
    for sentence in found.sentences:
        click.echo(harmless(sentence))
    click.echo(f"report: {path}", err=True)
