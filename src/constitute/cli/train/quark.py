"""`constitute train quark`: rounds of sampling under the best reward token and learning by quantiles."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options
from constitute.cli.train import shared
from constitute.cli.train.expert import rounds_option


@options.command()
@options.compose(options.common, options.prompts, options.limit, options.skip_bad, shared.out, rounds_option)
@click.option("--model", help="Model to start from; the run's fine-tuned one if absent.")
@options.compose(shared.reward, options.constitution, shared.judge, shared.force)
def quark(
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
    """Sample, sort all samples into quantiles by reward, learn each under its token, and go on from there.

    Responses are sampled under the token of the best quantile, which the saved chat template writes too. A KL
    to the model at the start holds the policy near. A share of the prompts is never learned from: the reward
    of each round is measured on these. The same command goes on where it stopped.

    \b
    Examples:
      constitute train quark --run run --prompts prompts.jsonl --rounds 4
      constitute train quark --model tuned --prompts prompts.jsonl --reward judge --out policy
    """
    from constitute.progress import open_progress

    wanted = {"prompts": prompts_file, "limit": limit, "seed": seed}
    wanted |= {"constitution": constitution_file, "judge": judge}
    config = options.configured(run_dir, config_file, shared.with_rounds(sets, "quark", rounds), wanted)
    with open_progress(as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.imitation.quark import run_quark
        summary = run_quark(
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
