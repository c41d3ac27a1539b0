"""`constitute report`: one HTML file about a run."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from constitute.cli import options


@options.command()
@options.run_dir
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=options.in_a_folder,
    help="File to write.",
)
@click.option("--rows", type=click.IntRange(0, 1000), default=24, show_default=True, help="Chains shown.")
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@options.debug
def report(run_dir: Path, output: Path | None, rows: int, show: bool) -> None:
    """Write one self-contained HTML file about a run: data, labels, training, evals, sample rows.

    \b
    Examples:
      constitute report --run demo-run
      constitute report --run demo-run -o /tmp/report.html --rows 100
    """
    from constitute.report.build import write_report

    path = write_report(run_dir, output, rows)
    click.echo(path)
    if show:
        webbrowser.open(path.resolve().as_uri())
