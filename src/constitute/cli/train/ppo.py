"""`constitute train ppo`: PPO against reward models, functions, services or the judge."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constitute.cli import options

if TYPE_CHECKING:
    from constitute.config import RunConfig
    from constitute.progress import Progress
    from constitute.types import Prompt

out = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write; in the run if absent."
)
reward = click.option(
    "--reward",
    "rewards",
    multiple=True,
    metavar="SOURCE",
    help="What to maximise, as SOURCE or WEIGHT*SOURCE; repeat to add up. A reward model's folder, "
    "module:function, an http(s):// URL, or 'judge'. The run's reward model if absent.",
)
replay = click.option(
    "--replay",
    type=click.Path(path_type=Path, file_okay=False),
    help="Learn from the rollouts stored in this folder, without an engine.",
)


@options.command()
@options.compose(options.common, options.prompts, options.limit, options.skip_bad, out)
@click.option("--model", help="Policy to start from; the run's fine-tuned one if absent.")
@click.option("--reference", help="Model the KL is measured from; the policy itself if absent.")
@options.compose(reward, options.constitution)
@click.option("--judge", help="Model that rates for the reward 'judge'; the run's model if absent.")
@options.compose(replay)
def ppo(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    prompts_file: str | None,
    limit: int | None,
    skip_bad: bool,
    out: Path | None,
    model: str | None,
    reference: str | None,
    rewards: tuple[str, ...],
    constitution_file: str | None,
    judge: str | None,
    replay: Path | None,
) -> None:
    """Train the policy with PPO; rollouts by the engine, checked after each update.

    A reward of weight 0 is measured only. A function gets (prompts, completions) and returns numbers; a
    service is POSTed {"query", "prompts", "responses"} and answers {"rewards": [...]}; the judge rates
    from 1 to 10 under the constitution. The same command goes on from the last checkpoint; metrics stand
    in OUT/metrics.jsonl.

    \b
    Examples:
      constitute train ppo --run run --prompts prompts.jsonl
      constitute train ppo --model tuned --reward reward --prompts prompts.jsonl --out policy
      constitute train ppo --prompts prompts.jsonl --reward 0.5*judge --reward my_rewards:brevity
    """
    from constitute.cli.train.print import print_summary
    from constitute.progress import open_progress
    from constitute.train.run import run_ppo

    wanted = {"prompts": prompts_file, "limit": limit, "seed": seed}
    wanted |= {"constitution": constitution_file, "judge": judge}
    config = options.configured(run_dir, config_file, sets, wanted)
    with open_progress(as_json) as progress:
        prompts = [] if replay is not None else _prompts(config, skip_bad, progress)
        summary = run_ppo(
            config,
            prompts,
            policy=model,
            reward=rewards or None,
            reference=reference,
            out=out,
            replay=replay,
            progress=progress,
        )
    folder = shlex.quote(str(out or config.run / "ppo"))
    print_summary(
        summary, as_json, f"constitute evals run --run {shlex.quote(str(config.run))} --model {folder}"
    )


def _prompts(config: RunConfig, skip_bad: bool, progress: Progress) -> list[Prompt]:
    from constitute.data.prompts import read_prompts
    from constitute.errors import UsageError

    if config.prompts is None:
        raise UsageError("no prompts given; name a file with --prompts, such as --prompts prompts.jsonl")
    prompts, bad = read_prompts(config.prompts, limit=config.limit, skip_bad=skip_bad)
    if bad:
        progress.note(f"{config.prompts}: skipped {len(bad)} bad lines, the first at {bad[0].where}")
    return prompts
