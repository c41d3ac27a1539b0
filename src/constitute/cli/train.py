"""`constitute train`: supervised fine-tuning, the reward model, and PPO."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitute.cli import options

if TYPE_CHECKING:
    pass

data = click.option(
    "--data", type=click.Path(path_type=Path), help="JSONL or Parquet; the run's export if absent."
)
out = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write; in the run if absent."
)


@click.group()
def train() -> None:
    """Train with AI feedback: supervised on revisions, then a reward model, then PPO.

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
    from constitute.loop.train import run_sft
    from constitute.progress import open_progress

    config = options.configured(run_dir, config_file, sets, {"model": model, "seed": seed})
    with open_progress(as_json) as progress:
        summary = run_sft(config, data=data, out=out, progress=progress)
    _print(summary, as_json, f"constitute train reward --run {shlex.quote(str(config.run))}")


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

    Rows hold `prompt`, `chosen`, `rejected` and `chosen_prob`.

    \b
    Examples:
      constitute train reward --run run
      constitute train reward --model tuned --data preferences.jsonl --out reward --set train.reward.epochs=2
    """
    from constitute.loop.train import run_reward
    from constitute.progress import open_progress

    config = options.configured(run_dir, config_file, sets, {"seed": seed})
    with open_progress(as_json) as progress:
        summary = run_reward(config, data=data, model=model, out=out, progress=progress)
    _print(summary, as_json, f"constitute train ppo --run {shlex.quote(str(config.run))}")


@train.command()
@options.compose(options.common, options.prompts, options.limit, options.skip_bad, out)
@click.option("--model", help="Policy to start from; the run's fine-tuned one if absent.")
@click.option("--reward-model", help="Reward model's folder; the run's if absent.")
@click.option("--reference", help="Model the KL is measured from; the policy itself if absent.")
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
    reward_model: str | None,
    reference: str | None,
) -> None:
    """Train the policy with PPO against the reward model; rollouts by the engine, checked after each update.

    The same command goes on from the last checkpoint. Metrics stand in OUT/metrics.jsonl.

    \b
    Examples:
      constitute train ppo --run run --prompts prompts.jsonl
      constitute train ppo --model tuned --reward-model reward --prompts prompts.jsonl --out policy
    """
    from constitute.data.prompts import read_prompts
    from constitute.errors import UsageError
    from constitute.loop.train import run_ppo
    from constitute.progress import open_progress

    wanted = {"prompts": prompts_file, "limit": limit, "seed": seed}
    config = options.configured(run_dir, config_file, sets, wanted)
    if config.prompts is None:
        raise UsageError("no prompts given; name a file with --prompts, such as --prompts prompts.jsonl")
    with open_progress(as_json) as progress:
        prompts, bad = read_prompts(config.prompts, limit=config.limit, skip_bad=skip_bad)
        if bad:
            progress.note(f"{config.prompts}: skipped {len(bad)} bad lines, the first at {bad[0].where}")
        summary = run_ppo(
            config,
            prompts,
            policy=model,
            reward=reward_model,
            reference=reference,
            out=out,
            progress=progress,
        )
    folder = shlex.quote(str(out or config.run / "ppo"))
    _print(summary, as_json, f"constitute evals run --run {shlex.quote(str(config.run))} --model {folder}")


def _print(summary: Mapping[str, Any], as_json: bool, following: str) -> None:
    """The summary as a table on stdout, or as one JSON event, and the next command on stderr."""
    from constitute.cli.text import table

    if as_json:
        click.echo(json.dumps({"event": "result", **summary}))
        return
    click.echo(table(("figure", "value"), list(_cells(summary))))
    click.echo(f"next: {following}", err=True)


def _cells(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Rows of the table; a figure with an interval is one row."""
    for name, value in summary.items():
        if not isinstance(value, Mapping):
            yield f"{prefix}{name}", value
        elif "low" in value:
            interval = f"{value['low']:.3f} to {value['high']:.3f}"
            yield f"{prefix}{name}", f"{value['value']:.3f} ({interval}, n = {value['n']})"
        else:
            yield from _cells(value, f"{prefix}{name} ")
