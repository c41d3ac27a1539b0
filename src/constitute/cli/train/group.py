"""`constitute train`: SFT, the reward model and DPO; each other trainer in its own file."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options
from constitute.cli.train import shared
from constitute.cli.train.best_of_n import best_of_n
from constitute.cli.train.conditioned import conditioned
from constitute.cli.train.doctor import doctor
from constitute.cli.train.expert import expert_iteration
from constitute.cli.train.overopt import overopt
from constitute.cli.train.plan import plan
from constitute.cli.train.ppo import grpo, ppo
from constitute.cli.train.quark import quark


@options.group()
def train() -> None:
    """Train with AI feedback: SFT on revisions, a reward model, then PPO or GRPO; or DPO, or best of n.

    \b
    Examples:
      constitute train sft --run run --model smollm2
      constitute train reward --run run
    """


@train.command()
@options.compose(options.common, options.model, shared.data, shared.out, shared.force)
def sft(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    data: tuple[Path, ...],
    out: Path | None,
    force: bool,
) -> None:
    """Fine-tune a model on revisions; the loss is on the assistant's tokens alone.

    Rows hold `messages`, or `prompt` and `completion`. The result is a plain Hugging Face folder.

    \b
    Examples:
      constitute train sft --run run --model smollm2
      constitute train sft --model Qwen/Qwen3-0.6B --data sft.jsonl --out tuned --set train.sft.lora_rank=16
    """
    from constitute.progress import open_progress

    config = options.configured(run_dir, config_file, sets, {"model": model, "seed": seed})
    with open_progress(as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.sft import run_sft
        summary = run_sft(config, data=data, out=out, progress=progress, force=force)
    following = shared.following("train reward", config, model=out)
    shared.print_summary(summary, as_json, following, out or config.run / "sft")


@train.command()
@options.compose(options.common, shared.data, shared.out, shared.force)
@click.option("--model", help="Model to start from; the run's fine-tuned one if absent.")
def reward(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    data: tuple[Path, ...],
    out: Path | None,
    force: bool,
    model: str | None,
) -> None:
    """Train a reward model on soft preference labels, and measure it on held-out prompts.

    Rows hold `prompt`, `chosen`, `rejected` and `chosen_prob`, and may hold `weight`, `margin`,
    `principle_ids` and `source`. Ends with exit code 4 where the held-out pairs do not show the model to be
    better than chance.

    \b
    Examples:
      constitute train reward --run run
      constitute train reward --model tuned --data preferences.jsonl --out reward --set train.reward.epochs=2
    """
    from constitute.cli.text import say
    from constitute.errors import GateFailed
    from constitute.progress import open_progress

    config = options.configured(run_dir, config_file, sets, {"seed": seed})
    with open_progress(as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.reward.train import run_reward
        summary = run_reward(config, data=data, model=model, out=out, progress=progress, force=force)
    following = shared.following("train ppo", config, reward=out)
    shared.print_summary(summary, as_json, following, out or config.run / "reward")
    if "verdict" in summary and not force:
        raise GateFailed(summary["verdict"])
    if "verdict" in summary:
        say(f"passed by --force although {summary['verdict']}")


@train.command()
@options.compose(options.common, shared.data, shared.out, shared.force)
@click.option("--model", help="Model to start from, and the reference; the run's fine-tuned one if absent.")
def dpo(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    data: tuple[Path, ...],
    out: Path | None,
    force: bool,
    model: str | None,
) -> None:
    """Train the policy on soft preference labels by DPO, without a reward model.

    Rows hold `prompt`, `chosen`, `rejected` and `chosen_prob`. The implicit reward is measured on held-out
    prompts. The same command goes on from the last checkpoint.

    \b
    Examples:
      constitute train dpo --run run
      constitute train dpo --model tuned --data preferences.jsonl --out policy --set train.dpo.beta=0.05
    """
    from constitute.progress import open_progress

    config = options.configured(run_dir, config_file, sets, {"seed": seed})
    with open_progress(as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.dpo import run_dpo
        summary = run_dpo(config, data=data, model=model, out=out, progress=progress, force=force)
    folder = out or config.run / "dpo"
    shared.print_summary(summary, as_json, shared.following("evals run", config, model=folder), folder)


for command in (ppo, grpo, best_of_n, expert_iteration, conditioned, quark, plan, overopt, doctor):
    train.add_command(command)
