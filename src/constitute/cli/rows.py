"""`constitute rows`: the rows of a run, how they ended and why, in the terminal or in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from constitute.data.query import FoundRow

# Characters of a cut text that the terminal shows: its end is where it was cut.
_SHOWN = 300
file_out = click.Path(path_type=Path, dir_okay=False)
share = click.FloatRange(0, 1)


@options.command()
@options.compose(options.run_dir)
@click.option("--stage", help="Only this stage: generate, revise, label, evals-run, evals-write/NAME.")
@click.option("--failed", is_flag=True, help="Rows that failed.")
@click.option("--abstained", is_flag=True, help="Rows that a stage declined.")
@click.option(
    "--worst",
    type=click.IntRange(1),
    is_flag=False,
    flag_value=10,
    metavar="[N]",
    help="The N labels (10) to trust least: by flipped votes, then the smallest margin.",
)
@click.option("--reason", default="", help="Rows whose reason holds this text.")
@click.option("--principle", help="Rows made under this principle.")
@click.option("--min-margin", type=share, help="Labels with |2 P(A) - 1| of at least this.")
@click.option("--max-margin", type=share, help="Labels with |2 P(A) - 1| of at most this.")
@click.option("--flipped", is_flag=True, help="Labels most of whose votes change with the order.")
@click.option("--csv", "csv_file", type=file_out, callback=options.in_a_folder, help="Write them as CSV.")
@click.option(
    "--parquet", "parquet_file", type=file_out, callback=options.in_a_folder, help="Write them as Parquet."
)
@options.compose(options.as_json, options.debug)
def rows(
    run_dir: Path,
    stage: str | None,
    failed: bool,
    abstained: bool,
    worst: int | None,
    reason: str,
    principle: str | None,
    min_margin: float | None,
    max_margin: float | None,
    flipped: bool,
    csv_file: Path | None,
    parquet_file: Path | None,
    as_json: bool,
) -> None:
    """List a run's rows: id, reason, the text that was cut, and the figures of labels.

    Every condition must hold; --failed and --abstained together take both. The terminal shows the end of a
    cut text, --json and the files hold all of it and what the stage made of the row.

    \b
    Examples:
      constitute rows --failed
      constitute rows --run my-run --stage label --worst 20
      constitute rows --stage label --flipped --max-margin 0.2 --csv doubtful.csv
    """
    from constitute.cli.text import counted, say
    from constitute.data.query import RowFilter, find_rows, write_csv, write_parquet
    from constitute.errors import UsageError
    from constitute.store import Store

    if sum((as_json, csv_file is not None, parquet_file is not None)) > 1:
        raise UsageError("--json, --csv and --parquet were given together; give one of them")
    given = ("failed",) * failed + ("abstain",) * abstained
    wanted = RowFilter.model_validate(
        {
            **{"stage": stage, "statuses": given, "reason": reason, "principle": principle, "worst": worst},
            **{"min_margin": min_margin, "max_margin": max_margin, "flipped": flipped},
        }
    )
    with Store.open(run_dir, readonly=True) as store:
        found = find_rows(store, wanted)
        if csv_file is not None or parquet_file is not None:
            number = write_csv(csv_file, found) if csv_file else write_parquet(Path(str(parquet_file)), found)
            say(f"wrote {counted(number, 'row')} to {csv_file or parquet_file}")
            return
        number = _print(found, as_json)
    if not as_json:
        say(f"{counted(number, 'row')} of {run_dir}")


def _print(found: Iterable[FoundRow], as_json: bool) -> int:
    """Print each row as it is found; returns how many there were."""
    import json

    number = 0
    for row in found:
        click.echo(json.dumps(row.model_dump(mode="json")) if as_json else text_of(row))
        number += 1
    return number


def text_of(row: FoundRow) -> str:
    """A row as a line of plain text, with the end of a cut text indented below it."""
    from constitute.cli.text import painted
    from constitute.text import harmless

    figures = [] if row.margin is None else [f"P {row.p_a:.3f}", f"margin {row.margin:.3f}"]
    if row.flips is not None:
        figures.append(f"flips {row.flips} of {len(row.principles)}")
    if row.mass is not None:
        figures.append(f"mass {row.mass:.3f}")
    parts = (row.stage, row.id, row.status, row.reason or ", ".join(figures))
    clean = [" ".join(harmless(part).split()) for part in parts if part]
    line = "  ".join(painted(part, row.status) if part == row.status else part for part in clean)
    if row.cut is None:
        return line
    end = harmless(row.cut)
    shown = end if len(end) <= _SHOWN else f"…{end[-_SHOWN:]}"
    return "\n".join([line, *(f"    {part}" for part in shown.split("\n"))])
