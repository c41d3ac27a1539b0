"""`constitute status` and `constitute show`: what a run holds, and one row's whole chain."""

from __future__ import annotations

import json
from pathlib import Path

import click

from constitute.cli import options


@options.command()
@options.compose(options.run_dir, options.as_json, options.debug)
def status(run_dir: Path, as_json: bool) -> None:
    """Count a run's rows by stage and outcome, with the commonest reasons.

    \b
    Examples:
      constitute status --run run
      constitute status --run my-run --json
    """
    from constitute.cli.text import grouped_reasons, table
    from constitute.store import Store

    with Store.open(run_dir, readonly=True) as store:
        counts = {stage: store.counts(stage) for stage in store.stages()}
        reasons = {stage: grouped_reasons(store.reasons(stage)) for stage in counts}
    if as_json:
        for stage, found in counts.items():
            why = [{"status": s, "rows": rows, "reason": reason} for s, rows, reason in reasons[stage]]
            click.echo(json.dumps({"stage": stage, "rows": sum(found.values()), **found, "reasons": why}))
        return
    rows = [
        (stage, sum(found.values()), found["ok"], found["abstain"], found["failed"])
        for stage, found in counts.items()
    ]
    click.echo(table(("stage", "rows", "ok", "abstain", "failed"), rows))
    listed = [(stage, *reason) for stage, found_reasons in reasons.items() for reason in found_reasons]
    if listed:
        click.echo("\n" + table(("stage", "status", "rows", "reason, for example"), listed))


@options.command()
@click.argument("row_id", metavar="ID")
@options.compose(options.run_dir, options.as_json, options.debug)
def show(row_id: str, run_dir: Path, as_json: bool) -> None:
    """Print one row's whole chain: prompt, response, critiques, revisions, label.

    ID is a prompt's, a response's or a pair's id, or the beginning of one.

    \b
    Examples:
      constitute show p1
      constitute show p1/0 --run my-run --json
    """
    from constitute.cli.text import chain_text
    from constitute.store import Store, chain_of

    with Store.open(run_dir, readonly=True) as store:
        rows = chain_of(store, row_id)
        if as_json:
            for stage, outcome in rows:
                attempts = [a for s, *a in store.attempts_of(outcome.row_id) if s == stage]
                line = {"stage": stage, **outcome.model_dump(mode="json"), "attempts": attempts}
                click.echo(json.dumps(line))
            return
    click.echo(chain_text(rows))
