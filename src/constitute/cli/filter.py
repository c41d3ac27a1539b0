"""`constitute filter`: remove rows of a run that are not worth training on."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options


@options.command("filter")
@click.option(
    "--use", multiple=True, metavar="NAME", help="A filter or preset (standard, strict); repeat for more."
)
@options.compose(options.common, options.constitution, options.limit)
def filter_rows(
    use: tuple[str, ...],
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    constitution_file: str | None,
    limit: int | None,
) -> int:
    """Remove revisions (or responses) that are not worth training on; no model is asked.

    A row that a filter removes abstains with the filter and its reason: `status`, `report` and the data card
    count it, `export` leaves it out, and its text stays where it was. Filters: copies_critique, unchanged,
    preamble, leak, refusal, language, repetition, reasoning.

    \b
    Examples:
      constitute filter --run run
      constitute filter --run run --use strict
      constitute filter --run run --use copies_critique --use repetition --set filter.repeated=0.5
    """
    from constitute.cli.stages import run_stage

    wanted = {"constitution": constitution_file, "limit": limit, "seed": seed}
    config = options.configured(run_dir, config_file, sets, {**wanted, "filter.use": list(use) or None})
    return run_stage(config.with_stage("filter"), "filter", as_json=as_json)
