"""`constitute doctor`: what this machine can do, and the remedy for each lack."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options


@options.command()
@click.option("--run", "folder", type=click.Path(path_type=Path), default=Path(), help="Where runs will go.")
@click.option("--model", help="Also examine this model: a local folder, a Hub name or 'smollm2'.")
@options.as_json
@options.debug
@click.pass_context
def doctor(ctx: click.Context, folder: Path, model: str | None, as_json: bool) -> None:
    """Say what this machine can do; exit code 2 where not even the data stages can run.

    \b
    Examples:
      constitute doctor
      constitute doctor --model ./my-model
      constitute doctor --json
    """
    from constitute.engines.doctor import can_run, examine

    checks = examine(folder, model)
    for check in checks:
        if as_json:
            click.echo(check.model_dump_json())
            continue
        click.echo(f"{check.state:4}  {check.name:13} {check.found}")
        if check.remedy:
            click.echo(f"      {'':13} -> {check.remedy}")
    if not can_run(checks):
        ctx.exit(2)
