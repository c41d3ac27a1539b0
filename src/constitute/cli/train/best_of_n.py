"""`constitute train best-of-n`: keep the best of n samples by a reward, and fine-tune on them."""

from __future__ import annotations

import click

from constitute.cli import options
from constitute.cli.train import shared


@options.command("best-of-n")
@shared.from_prompts
@shared.samples
@click.option("--sft", is_flag=True, help="Then fine-tune the model on the best, into OUT/sft.")
def best_of_n(given: shared.Given, samples: int | None, sft: bool) -> int:
    """Sample n completions per prompt and keep the one with the greatest reward.

    OUT/samples.jsonl holds every completion with its scores, OUT/best.jsonl rows for `train sft`. The
    summary gives the reward to expect of the best of 1, 2, 4, ... n, and the KL of each. The same command
    goes on where it stopped. Ends with exit code 3 where a prompt has no completion that ended by itself.

    \b
    Examples:
      constitute train best-of-n --run run --prompts prompts.jsonl -n 16
      constitute train best-of-n --model tuned --prompts prompts.jsonl --reward reward --out best --sft
    """
    from constitute.progress import open_progress

    config = given.configured({"train.best_of_n.n": samples})
    with open_progress(given.as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.best_of_n.run import run_best_of_n
        summary = run_best_of_n(
            config,
            given.prompts(config, progress),
            model=given.model,
            reward=given.rewards or None,
            out=given.out,
            sft=sft,
            progress=progress,
            force=given.force,
        )
    folder = given.out or config.run / "best-of-n"
    after = shared.following("evals run", config, model=folder / "sft")
    before = shared.following("train sft", config, data=folder / "best.jsonl", out=folder / "sft")
    shared.print_summary(summary, given.as_json, after if sft else before, folder)
    return shared.sampled_code([summary])
