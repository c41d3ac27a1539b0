"""`constitute merge`: one run of several."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from constitute.cli import options


@options.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Directory of the merged run; a new one."
)
@options.compose(options.as_json, options.debug)
def merge(runs: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Make one run of several that have the same settings and different prompts, as from several machines.

    The N runs of --shard 1/N to N/N become the run that was never split, byte for byte in its rows and
    exports; one that is missing, given twice, unfinished or of other input is refused by name.
    Rows that are equal in several runs are there once; different rows of one id are refused. The runs stay
    as they are. Evals, exports and models are left out: make them from the merged run.

    \b
    Examples:
      constitute merge run-a run-b --out run
      constitute merge shards/1 shards/2 shards/3 --out whole --json
    """
    from constitute.cli.text import say, table
    from constitute.pipeline.merge import merge_runs

    done = merge_runs(runs, out)
    if as_json:
        click.echo(json.dumps({"event": "result", "out": str(out), **done.model_dump(mode="json")}))
        return
    rows = [
        (stage, sum(ended.values()), ended["ok"], ended["abstain"], ended["failed"])
        for stage, ended in done.counts.items()
    ]
    click.echo(table(("stage", "rows", "ok", "abstain", "failed"), rows))
    for sentence in done.warnings:
        say(f"warning: {sentence}")
    if done.shards:
        say(f"all {done.shards} shards are there, each row once")
    if done.left_out:
        say(f"left out: {', '.join(done.left_out)}; run `constitute evals run` on the merged run")
    say(f"next: constitute export --run {shlex.quote(str(out))}")
