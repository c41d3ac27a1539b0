"""`constitute prune`: what a run no longer needs on disk."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from constitute.cli import options


@options.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path, file_okay=False))
@click.option("--policies", is_flag=True, help="PPO's policies on the way too, which overopt compares.")
@click.option("--yes", is_flag=True, help="Delete what is listed; without it nothing is deleted.")
@options.as_json
@options.debug
def prune(run_dir: Path, policies: bool, yes: bool, as_json: bool) -> None:
    """List what the run directory RUN no longer needs, with its size; `--yes` deletes it.

    That is states of trainings that ended and files that killed writers left. Rows, answers, sets, results
    and trained models stay, and so does all that an unfinished training goes on from.

    \b
    Examples:
      constitute prune run
      constitute prune run --policies --yes
    """
    from constitute.cli.text import say, table
    from constitute.store.prune import prunable, remove, size_of

    items = prunable(run_dir, policies=policies)
    before, size = size_of(run_dir), sum(item.size for item in items)
    listed = [(str(item.path.relative_to(run_dir)), item.size, item.why) for item in items]
    freed = remove(items) if yes else 0
    if as_json:
        for path, bytes_, why in listed:
            click.echo(json.dumps({"path": path, "bytes": bytes_, "why": why, "deleted": yes}))
        return
    if not listed:
        say(f"{run_dir} holds {before:,} bytes and nothing that can go")
        return
    click.echo(table(("path", "bytes", "why"), [(path, f"{bytes_:,}", why) for path, bytes_, why in listed]))
    if yes:
        say(f"deleted {freed:,} of {before:,} bytes")
        return
    more = " --policies" if policies else ""
    say(f"{size:,} of {before:,} bytes can go: constitute prune {shlex.quote(str(run_dir))}{more} --yes")
