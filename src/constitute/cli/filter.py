"""`constitute filter`: remove rows of a run that are not worth training on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options
from constitute.errors import ExitCode

if TYPE_CHECKING:
    from constitute.config import RunConfig


@options.command("filter")
@click.option(
    "--use", multiple=True, metavar="NAME", help="A filter or preset (standard, strict); repeat for more."
)
@click.option("--dry-run", is_flag=True, help="Count what each filter would remove by itself; write nothing.")
@options.compose(options.common, options.constitution, options.limit, options.shard)
def filter_rows(
    use: tuple[str, ...],
    dry_run: bool,
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    constitution_file: str | None,
    limit: int | None,
    shard: str | None,
) -> int:
    """Remove revisions (or responses) that are not worth training on; no model is asked.

    A row that a filter removes abstains with the filter and its reason: `status`, `report` and the data card
    count it, `export` leaves it out, and its text stays where it was. Filters: copies_critique, unchanged,
    preamble, leak, refusal, language, repetition, reasoning.

    \b
    Examples:
      constitute filter --run run
      constitute filter --run run --use strict --dry-run
      constitute filter --run run --use copies_critique --use repetition --set filter.repeated=0.5
    """
    from constitute.cli.stages import run_stage

    wanted = {"constitution": constitution_file, "limit": limit, "seed": seed, "shard": shard}
    config = options.configured(run_dir, config_file, sets, {**wanted, "filter.use": list(use) or None})
    if dry_run:
        _print_tried(config, as_json)
        return ExitCode.OK
    return run_stage(config.with_stage("filter"), "filter", as_json=as_json)


def _print_tried(config: RunConfig, as_json: bool) -> None:
    from constitute.cli.text import say, table
    from constitute.pipeline.trying import try_filters

    tried = try_filters(config)
    if as_json:
        click.echo(json.dumps({"event": "result", **tried.model_dump(mode="json")}))
        return
    rows = [(name, len(ids), ", ".join(ids[:5])) for name, ids in tried.found.items()]
    click.echo(table(("filter", "rows", "first ids"), rows))
    say(f"together they would remove {tried.together} of {tried.rows} rows; nothing was written")
