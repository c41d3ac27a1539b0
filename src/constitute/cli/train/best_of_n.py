"""`constitute train best-of-n`: keep the best of n samples by a reward, and fine-tune on them."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options
from constitute.cli.train import shared

samples = click.option(
    "-n",
    "samples",
    type=click.IntRange(1, 1024),
    help="Completions per prompt; train.best_of_n.n if absent.",
)


@options.command("best-of-n")
@options.compose(options.common, options.prompts, options.limit, options.skip_bad, samples, shared.out)
@click.option("--model", help="Model to sample; the run's fine-tuned one if absent.")
@options.compose(shared.reward, options.constitution, shared.judge, shared.force)
@click.option("--sft", is_flag=True, help="Then fine-tune the model on the best, into OUT/sft.")
def best_of_n(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    prompts_file: str | None,
    limit: int | None,
    skip_bad: bool,
    samples: int | None,
    out: Path | None,
    model: str | None,
    rewards: tuple[str, ...],
    constitution_file: str | None,
    judge: str | None,
    force: bool,
    sft: bool,
) -> None:
    """Sample n completions per prompt and keep the one with the greatest reward.

    OUT/samples.jsonl holds every completion with its scores, OUT/best.jsonl rows for `train sft`. The
    summary gives the reward to expect of the best of 1, 2, 4, ... n, and the KL of each. The same command
    goes on where it stopped.

    \b
    Examples:
      constitute train best-of-n --run run --prompts prompts.jsonl -n 16
      constitute train best-of-n --model tuned --prompts prompts.jsonl --reward reward --out best --sft
    """
    from constitute.progress import open_progress

    wanted = {"prompts": prompts_file, "limit": limit, "seed": seed}
    wanted |= {"constitution": constitution_file, "judge": judge}
    config = options.configured(run_dir, config_file, sets, wanted)
    with open_progress(as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.best_of_n.run import run_best_of_n
        summary = run_best_of_n(
            config,
            shared.given_prompts(config, skip_bad, progress),
            model=model,
            reward=rewards or None,
            n=samples,
            out=out,
            sft=sft,
            progress=progress,
            force=force,
        )
    folder = out or config.run / "best-of-n"
    after = shared.following("evals run", config, model=folder / "sft")
    before = shared.following("train sft", config, data=folder / "best.jsonl", out=folder / "sft")
    shared.print_summary(summary, as_json, after if sft else before)
