"""`constitute train ppo` and `grpo`: against reward models, functions, services or the judge."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Literal

import click

from constitute.cli import options
from constitute.cli.train import shared

replay = click.option(
    "--replay",
    type=click.Path(path_type=Path, file_okay=False),
    help="Learn from the rollouts stored in this folder, without an engine.",
)
_MODELS = (
    click.option("--model", help="Policy to start from; the run's fine-tuned one if absent."),
    click.option("--reference", help="Model the KL is measured from; the policy itself if absent."),
)


@options.command()
@options.compose(options.common, options.prompts, options.limit, options.skip_bad, shared.out, *_MODELS)
@options.compose(shared.reward, options.constitution, shared.judge, replay, shared.force)
def ppo(config_file: Path | None, sets: tuple[str, ...], as_json: bool, **given: Any) -> None:
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
    _train("ppo", config_file, sets, as_json, **given)


@options.command()
@options.compose(options.common, options.prompts, options.limit, options.skip_bad, shared.out, *_MODELS)
@options.compose(shared.reward, options.constitution, shared.judge, replay, shared.force)
def grpo(config_file: Path | None, sets: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Train the policy with GRPO: each response against the others of its prompt, without a critic.

    Everything else is as in `train ppo`, and so are the settings, which stand under train.grpo. DAPO,
    Dr. GRPO and GSPO are settings of it (docs/training.md).

    \b
    Examples:
      constitute train grpo --run run --prompts prompts.jsonl
      constitute train grpo --prompts prompts.jsonl --reward judge --set train.grpo.samples_per_prompt=16
    """
    _train("grpo", config_file, sets, as_json, **given)


def _train(
    method: Literal["ppo", "grpo"],
    config_file: Path | None,
    sets: tuple[str, ...],
    as_json: bool,
    *,
    run_dir: Path,
    seed: int | None,
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
            method=method,
            policy=model,
            reward=rewards or None,
            reference=reference,
            out=out,
            replay=replay,
            progress=progress,
            force=force,
        )
    folder = out or config.run / method
    scored = shared.following("evals run", config, model=folder)
    shared.print_summary(summary, as_json, scored or f"constitute train doctor {shlex.quote(str(folder))}")
