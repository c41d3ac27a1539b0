"""`constitute train best-of-n`: keep the best of n samples by a reward, and fine-tune on them."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from constitute.cli import options

out = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write; in the run if absent."
)
samples = click.option(
    "-n",
    "samples",
    type=click.IntRange(1, 1024),
    help="Completions per prompt; train.best_of_n.n if absent.",
)
reward = click.option(
    "--reward",
    "rewards",
    multiple=True,
    metavar="SOURCE",
    help="What is the best, as SOURCE or WEIGHT*SOURCE; repeat to add up. A reward model's folder, "
    "module:function, an http(s):// URL, or 'judge'. The run's reward model if absent.",
)


@options.command("best-of-n")
@options.compose(options.common, options.prompts, options.limit, options.skip_bad, samples, out)
@click.option("--model", help="Model to sample; the run's fine-tuned one if absent.")
@options.compose(reward, options.constitution)
@click.option("--judge", help="Model that rates for the reward 'judge'; the run's model if absent.")
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
    sft: bool,
) -> None:
    """Sample n completions per prompt and keep the one with the greatest reward.

    OUT/samples.jsonl holds every completion with its scores, OUT/best.jsonl rows for `train sft`. Tells
    the reward to expect of the best of 1, 2, 4, ... n, and the KL that goes with it. The same command goes
    on where it stopped.

    \b
    Examples:
      constitute train best-of-n --run run --prompts prompts.jsonl -n 16
      constitute train best-of-n --model tuned --prompts prompts.jsonl --reward reward --out best --sft
    """
    from constitute.cli.train.ppo import _prompts
    from constitute.cli.train.print import print_summary
    from constitute.progress import open_progress
    from constitute.train.prefer import run_best_of_n

    wanted = {"prompts": prompts_file, "limit": limit, "seed": seed}
    wanted |= {"constitution": constitution_file, "judge": judge}
    config = options.configured(run_dir, config_file, sets, wanted)
    with open_progress(as_json) as progress:
        summary = run_best_of_n(
            config,
            _prompts(config, skip_bad, progress),
            model=model,
            reward=rewards or None,
            n=samples,
            out=out,
            sft=sft,
            progress=progress,
        )
    folder, run = out or config.run / "best-of-n", shlex.quote(str(config.run))
    after = f"evals run --run {run} --model {shlex.quote(str(folder / 'sft'))}"
    before = f"train sft --run {run} --data {shlex.quote(str(folder / 'best.jsonl'))}"
    print_summary(summary, as_json, f"constitute {after if sft else before}")
