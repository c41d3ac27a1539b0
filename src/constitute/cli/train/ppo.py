"""`constitute train ppo` and `grpo`: against reward models, functions, services or the judge."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

import click

from constitute.cli import options
from constitute.cli.train import shared

replay = click.option(
    "--replay",
    type=click.Path(path_type=Path, file_okay=False),
    help="Learn from the rollouts stored in this folder, without an engine.",
)
reference = click.option("--reference", help="Model the KL is measured from; the policy itself if absent.")


@options.command()
@shared.from_prompts
@reference
@replay
def ppo(given: shared.Given, reference: str | None, replay: Path | None) -> None:
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
    _train("ppo", given, reference, replay)


@options.command()
@shared.from_prompts
@reference
@replay
def grpo(given: shared.Given, reference: str | None, replay: Path | None) -> None:
    """Train the policy with GRPO: each response against the others of its prompt, without a critic.

    Everything else is as in `train ppo`, and so are the settings, which stand under train.grpo. DAPO,
    Dr. GRPO and GSPO are settings of it (docs/training.md).

    \b
    Examples:
      constitute train grpo --run run --prompts prompts.jsonl
      constitute train grpo --prompts prompts.jsonl --reward judge --set train.grpo.samples_per_prompt=16
    """
    _train("grpo", given, reference, replay)


def _train(
    method: Literal["ppo", "grpo"], given: shared.Given, reference: str | None, replay: Path | None
) -> None:
    from constitute.progress import open_progress

    config = given.configured({})
    with open_progress(given.as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.ppo.start import run_ppo
        summary = run_ppo(
            config,
            [] if replay is not None else given.prompts(config, progress),
            method=method,
            policy=given.model,
            reward=given.rewards or None,
            reference=reference,
            out=given.out,
            replay=replay,
            progress=progress,
            force=given.force,
        )
    folder = given.out or config.run / method
    scored = shared.following("evals run", config, model=folder)
    named = scored or f"constitute train doctor {shlex.quote(str(folder))}"
    shared.print_summary(summary, given.as_json, named, folder)
