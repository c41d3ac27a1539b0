"""`constitute train`: supervised fine-tuning and the reward model; each other trainer in its own file."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from constitute.cli import options
from constitute.cli.train.best_of_n import best_of_n
from constitute.cli.train.doctor import doctor
from constitute.cli.train.dpo import dpo
from constitute.cli.train.overopt import overopt
from constitute.cli.train.ppo import ppo

data = click.option(
    "--data", type=click.Path(path_type=Path), help="JSONL or Parquet; the run's export if absent."
)
out = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write; in the run if absent."
)


@options.group()
def train() -> None:
    """Train with AI feedback: supervised on revisions, then a reward model, then PPO; or DPO, or best of n.

    \b
    Examples:
      constitute train sft --run run --model pocket
      constitute train reward --run run
    """


@train.command()
@options.compose(options.common, options.model, data, out)
def sft(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    data: Path | None,
    out: Path | None,
) -> None:
    """Fine-tune a model on revisions; the loss is on the assistant's tokens alone.

    Rows hold `messages`, or `prompt` and `completion`. The result is a plain Hugging Face folder.

    \b
    Examples:
      constitute train sft --run run --model pocket
      constitute train sft --model Qwen/Qwen3-0.6B --data sft.jsonl --out tuned --set train.sft.lora_rank=16
    """
    from constitute.cli.train.print import print_summary
    from constitute.progress import open_progress
    from constitute.train.run import run_sft

    config = options.configured(run_dir, config_file, sets, {"model": model, "seed": seed})
    with open_progress(as_json) as progress:
        summary = run_sft(config, data=data, out=out, progress=progress)
    print_summary(summary, as_json, f"constitute train reward --run {shlex.quote(str(config.run))}")


@train.command()
@options.compose(options.common, data, out)
@click.option("--model", help="Model to start from; the run's fine-tuned one if absent.")
def reward(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    data: Path | None,
    out: Path | None,
) -> None:
    """Train a reward model on soft preference labels, and measure it on held-out prompts.

    Rows hold `prompt`, `chosen`, `rejected` and `chosen_prob`, and may hold `weight`, `margin`,
    `principle_ids` and `source`.

    \b
    Examples:
      constitute train reward --run run
      constitute train reward --model tuned --data preferences.jsonl --out reward --set train.reward.epochs=2
    """
    from constitute.cli.train.print import print_summary
    from constitute.progress import open_progress
    from constitute.train.run import run_reward

    config = options.configured(run_dir, config_file, sets, {"seed": seed})
    with open_progress(as_json) as progress:
        summary = run_reward(config, data=data, model=model, out=out, progress=progress)
    print_summary(summary, as_json, f"constitute train ppo --run {shlex.quote(str(config.run))}")


for command in (dpo, ppo, best_of_n, overopt, doctor):
    train.add_command(command)
