"""`constitute train expert-iteration`: rounds of best-of-n and fine-tuning, until the reward stops rising."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options
from constitute.cli.train import shared

rounds_option = click.option(
    "--rounds", type=click.IntRange(1), help="Rounds at most; the method's own setting if absent."
)


@options.command("expert-iteration")
@options.compose(options.common, options.prompts, options.limit, options.skip_bad, shared.out, rounds_option)
@click.option("--model", help="Model to start from; the run's fine-tuned one if absent.")
@options.compose(shared.reward, options.constitution, shared.judge, shared.force)
def expert_iteration(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    prompts_file: str | None,
    limit: int | None,
    skip_bad: bool,
    out: Path | None,
    rounds: int | None,
    model: str | None,
    rewards: tuple[str, ...],
    constitution_file: str | None,
    judge: str | None,
    force: bool,
) -> None:
    """Sample, keep the best of n, fine-tune on them, and go on from the new model, round after round.

    A share of the prompts is never trained on. The rounds end where the reward on these no longer rises by a
    paired test, and the model before is the result; the summary names its folder. The same command goes on
    where it stopped.

    \b
    Examples:
      constitute train expert-iteration --run run --prompts prompts.jsonl --rounds 3
      constitute train expert-iteration --model tuned --prompts prompts.jsonl --reward reward --out rounds
    """
    from constitute.progress import open_progress

    wanted = {"prompts": prompts_file, "limit": limit, "seed": seed}
    wanted |= {"constitution": constitution_file, "judge": judge}
    config = options.configured(
        run_dir, config_file, shared.with_rounds(sets, "expert_iteration", rounds), wanted
    )
    with open_progress(as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.imitation.expert import run_expert_iteration
        summary = run_expert_iteration(
            config,
            shared.given_prompts(config, skip_bad, progress),
            model=model,
            reward=rewards or None,
            out=out,
            progress=progress,
            force=force,
        )
    shared.print_summary(
        summary, as_json, shared.following("evals run", config, model=Path(summary["policy"]))
    )
