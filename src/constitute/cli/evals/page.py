"""`constitute evals page`: read eval sets, and what policies answer, in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options


@options.command()
@options.compose(options.run_dir, options.config_file, options.sets, options.debug)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to; evals/pages in the run if not given.",
)
@click.option("--set-spec", metavar="NAME|FILE", help="How files are read: a set of `evals list`, or a file.")
@click.argument("sets_wanted", metavar="[SET]...", nargs=-1)
def page(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    out: Path | None,
    set_spec: str | None,
    sets_wanted: tuple[str, ...],
) -> None:
    """Write a page for each set: its items in groups, with filters, and each policy's answers.

    SET is a file, or the name of a set that was written or scored in the run; without any, all of these. The
    page runs nothing and loads nothing; of a large set it shows items spread evenly, and says so.

    \b
    Examples:
      constitute evals page
      constitute evals page flattery --run demo-run --out pages
    """
    from constitute.evals.sets import find_spec
    from constitute.report.evals.written import write_pages

    config = options.configured(run_dir, config_file, sets, {})
    spec = find_spec(set_spec) if set_spec else None
    for path in write_pages(config.run, sets_wanted, out, spec):
        click.echo(str(path))
