"""`constitute train ppo`: PPO against reward models, functions, services or the judge."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options
from constitute.cli.train import shared

replay = click.option(
    "--replay",
    type=click.Path(path_type=Path, file_okay=False),
    help="Learn from the rollouts stored in this folder, without an engine.",
)


@options.command()
@options.compose(options.common, options.prompts, options.limit, options.skip_bad, shared.out)
@click.option("--model", help="Policy to start from; the run's fine-tuned one if absent.")
@click.option("--reference", help="Model the KL is measured from; the policy itself if absent.")
@options.compose(shared.reward, options.constitution, shared.judge, replay, shared.force)
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
    force: bool,
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
    from constitute.progress import open_progress

    wanted = {"prompts": prompts_file, "limit": limit, "seed": seed}
    wanted |= {"constitution": constitution_file, "judge": judge}
    config = options.configured(run_dir, config_file, sets, wanted)
    with open_progress(as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.ppo.start import run_ppo
        prompts = [] if replay is not None else shared.given_prompts(config, skip_bad, progress)
        summary = run_ppo(
            config,
            prompts,
            policy=model,
            reward=rewards or None,
            reference=reference,
            out=out,
            replay=replay,
            progress=progress,
            force=force,
        )
    folder = out or config.run / "ppo"
    shared.print_summary(summary, as_json, shared.following("evals run", config, model=folder))
