"""`constitute run`: the whole loop of one YAML file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options
from constitute.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from constitute.config import RunConfig
    from constitute.loop import Loop
    from constitute.pipeline.budget import Limits

TRAINERS = ("sft", "reward", "ppo", "grpo", "dpo", "best-of-n")
STEPS = ("data", "export", *TRAINERS, "evals", "report")


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
@options.compose(options.limits, options.gates)
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
    gates: dict[str, float | None],
    dry_run: bool,
    force: bool,
    run_dir: Path | None,
) -> int:
    """Run the whole loop of one YAML file: data, exports, SFT, reward model, PPO, evals, report.

    `train.method` puts DPO or best of n in PPO's place, or beside it. The same command continues a run
    that stopped; what is finished is not done again. Where labels say nothing or do not pass a gate, it
    stops before training; a reward model that says nothing is not optimised against. The exit code is then 4.

    \b
    Examples:
      constitute run run.yaml
      constitute run run.yaml --until export --limit 100 --set generate.temperature=0.7
      constitute run run.yaml --set train.method=dpo
      constitute run run.yaml --shard 2/4 --run shards/2
      constitute run run.yaml --on ray --until data --set runner.ray.actors=2
    """
    from constitute.config import load_config
    from constitute.loop import open_loop, run_loop, steps_of
    from constitute.progress import open_progress

    wanted = {"model": model, "constitution": constitution_file, "prompts": prompts_file}
    more = {"generate.n": samples, "limit": limit, "seed": seed, "run": run_dir, "reuse": reuse_dir}
    where = {"shard": shard, "runner.on": on}
    config = load_config(file, sets, {**wanted, **more, **where, **gates})
    until = until or ("data" if config.shard is not None else STEPS[-1])
    if dry_run:
        from constitute.cli.plan import show

        show(config, skip_bad=skip_bad, as_json=as_json, prices=(limits.price_in, limits.price_out))
        return ExitCode.OK
    # Refused before a model is loaded.
    steps_of(config, until)
    with (
        open_progress(as_json) as progress,
        open_loop(
            config, progress=progress, skip_bad=skip_bad, force=force, limits=limits, until=until
        ) as loop,
    ):
        found = run_loop(loop, until)
    return _ended(loop, found, as_json)


def _ended(loop: Loop, found: dict[str, Any], as_json: bool) -> int:
    """Print how the run ended and return its exit code. Raises `GateFailed` for the gates it did not meet."""
    from constitute.cli.text import say
    from constitute.errors import GateFailed

    _print(found, loop.seconds, loop.config, as_json)
    if not as_json:
        for sentence in remedies(loop.config.run, tuple(found["data"])):
            say(sentence)
    if loop.gates:
        raise GateFailed("; ".join(loop.gates))
    failed = any(counts["failed"] for counts in found["data"].values())
    return ExitCode.ROWS_FAILED if failed else ExitCode.OK


def remedies(run_dir: Path, stages: tuple[str, ...]) -> Iterator[str]:
    """What to type to repair the rows of each stage that failed, or abstained for want of mass."""
    from constitute.pipeline.cut import after_abstentions, after_failures
    from constitute.store import Store

    folder = shlex.quote(str(run_dir))
    anew = f"begin a run NEW that asks again only what changed: this command with --run NEW --reuse {folder}"
    repaired = False
    with Store.open(run_dir, readonly=True) as store:
        for stage in stages:
            reasons = store.reasons(stage)

            def retrying(sets: Sequence[str], stage: str = stage) -> str:
                words = ["constitute", stage, "--run", str(run_dir), "--retry-failed"]
                return f"`{shlex.join([*words, *(word for text in sets for word in ('--set', text))])}`"

            told = [after_abstentions(stage, reasons, retrying)]
            if any(status == "failed" for status, *_ in reasons):
                told.append(after_failures(stage, reasons, anew, retrying))
            for sentence in filter(None, told):
                repaired = True
                yield f"{stage}: {sentence}"
    if repaired:
        yield (
            "then this command goes on with the repaired rows; what was trained without them is refused, as "
            "its data has changed"
        )


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
