"""`constitute evals reward`: how often a reward model prefers the right answer."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options
from constitute.errors import ExitCode


@options.command()
@options.compose(options.common, options.constitution, options.limit)
@click.option("--reference", metavar="MODEL", help="SOURCE is a policy; its reward is that against MODEL.")
@click.option(
    "--max-length",
    type=click.IntRange(2),
    help="Last tokens of a conversation that are read; the model's context if absent.",
)
@click.option("--judge", help="Model that SOURCE 'judge' asks; the run's judge or model if absent.")
@click.option(
    "--pairwise", is_flag=True, help="The judge compares both answers, in both orders (label.method)."
)
@click.option("--policy", help="Name of the reward model in the results; from SOURCE if not given.")
@click.argument("source")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def reward(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    constitution_file: str | None,
    limit: int | None,
    reference: str | None,
    max_length: int | None,
    judge: str | None,
    pairwise: bool,
    policy: str | None,
    source: str,
    files: tuple[Path, ...],
) -> int:
    """Score a reward model by how often it prefers the right answer.

    SOURCE is what `train ppo --reward` takes: a reward model's folder or Hub name, module:function, an
    http(s):// URL, or 'judge'; with --reference, a policy trained by DPO. FILES hold chosen and rejected
    answers in any shape that `train reward` reads. Those of RewardBench 1 and 2 are known by their subsets
    and get their published figures.

    \b
    Examples:
      constitute evals reward run/reward rewardbench/filtered.parquet
      constitute evals reward run/dpo --reference run/sft harmless-test.jsonl.gz --limit 500
      constitute evals reward judge --pairwise --judge smollm2 --constitution assistant pairs.jsonl
    """
    from constitute.cli.evals.text import print_rewarded
    from constitute.cli.train.shared import STARTING
    from constitute.evals.reward.pairwise import judge_of, run_pairwise
    from constitute.evals.reward.run import read_reward_sets, run_reward
    from constitute.progress import open_progress

    given = {"seed": seed, "constitution": constitution_file, "judge": judge}
    config = options.configured(run_dir, config_file, sets, given)
    with open_progress(as_json) as progress:
        read = read_reward_sets(config, files, limit, progress)
        if pairwise:
            results = run_pairwise(judge_of(config, source), read, policy=policy, progress=progress)
        else:
            with progress.waiting(STARTING):
                from constitute.train.answers import open_answers
            with open_answers(
                config, source, reference=reference, max_length=max_length, progress=progress
            ) as scorer:
                results = run_reward(
                    config,
                    read,
                    scorer.rewards,
                    scorer.model,
                    policy=policy or scorer.name,
                    progress=progress,
                )
    print_rewarded(results, config, as_json)
    return ExitCode.ROWS_FAILED if any(result.failed for result in results) else ExitCode.OK
