"""`constitute run`: the whole loop of one YAML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options
from constitute.errors import ExitCode

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.pipeline.budget import Limits

STEPS = ("data", "export", "sft", "reward", "ppo", "evals", "report")


@options.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--until",
    type=click.Choice(STEPS),
    help=f"Stop after this step; {STEPS[-1]} where none is given, and data with --shard.",
)
@click.option("--on", metavar="RUNNER", help="Where the data stages run: local, or ray for a cluster.")
@options.compose(options.model, options.constitution, options.prompts, options.samples, options.limit)
@options.compose(
    options.shard, options.sets, options.seed, options.skip_bad, options.as_json, options.debug, options.reuse
)
@options.limits
@click.option("--dry-run", is_flag=True, help="Only say what the data stages would ask, as `plan` does.")
@click.option("--force", is_flag=True, help="Train even on labels and a reward model that say nothing.")
@click.option(
    "--run", "run_dir", type=click.Path(path_type=Path), help="Run directory, in place of the file's."
)
def run(
    file: Path,
    until: str | None,
    on: str | None,
    model: str | None,
    constitution_file: str | None,
    prompts_file: str | None,
    samples: int | None,
    limit: int | None,
    shard: str | None,
    sets: tuple[str, ...],
    seed: int | None,
    skip_bad: bool,
    as_json: bool,
    reuse_dir: Path | None,
    limits: Limits,
    dry_run: bool,
    force: bool,
    run_dir: Path | None,
) -> int:
    """Run the whole loop of one YAML file: data, exports, SFT, reward model, PPO, evals, report.

    The same command continues a run that stopped; what is finished is not done again. Labels or a reward
    model that say nothing are not trained on: the other steps run, and the exit code is 4.

    \b
    Examples:
      constitute run run.yaml
      constitute run run.yaml --until export --limit 100 --set generate.temperature=0.7
      constitute run run.yaml --shard 2/4 --run shards/2
      constitute run run.yaml --on ray --until data --set runner.ray.actors=2
    """
    from constitute.config import load_config
    from constitute.errors import GateFailed
    from constitute.loop import open_loop, run_loop
    from constitute.progress import open_progress

    wanted = {
        "model": model,
        "constitution": constitution_file,
        "prompts": prompts_file,
        "generate.n": samples,
        "limit": limit,
        "shard": shard,
        "runner.on": on,
        "seed": seed,
        "run": run_dir,
        "reuse": reuse_dir,
    }
    config = load_config(file, sets, wanted)
    until = until or ("data" if config.shard is not None else STEPS[-1])
    if dry_run:
        from constitute.cli.plan import show

        show(config, skip_bad=skip_bad, as_json=as_json, prices=(limits.price_in, limits.price_out))
        return ExitCode.OK
    with (
        open_progress(as_json) as progress,
        open_loop(
            config, progress=progress, skip_bad=skip_bad, force=force, limits=limits, until=until
        ) as loop,
    ):
        found = run_loop(loop, until)
    _print(found, loop.seconds, config, as_json)
    if loop.gates:
        raise GateFailed("; ".join(loop.gates))
    failed = any(counts["failed"] for counts in found["data"].values())
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK


def _print(found: dict[str, Any], seconds: dict[str, float], config: RunConfig, as_json: bool) -> None:
    from constitute.cli.text import table
    from constitute.loop import headline

    run_dir = config.run

    if as_json:
        click.echo(json.dumps({"event": "result", "run": str(run_dir), "steps": found, "seconds": seconds}))
        return
    click.echo(table(("step", "seconds", "outcome"), headline(found, seconds)))
    if config.shard is not None:
        click.echo(
            f"next: when all shards are done, constitute merge of their directories, {run_dir} among them",
            err=True,
        )
        return
    going_on = "the same command without --until, or " if "report" not in found else ""
    click.echo(
        f"next: {going_on}constitute report --run {run_dir}; constitute status --run {run_dir}", err=True
    )
