"""`constitute train quark`: rounds of sampling under the best reward token and learning by quantiles."""

from __future__ import annotations

from pathlib import Path

from constitute.cli import options
from constitute.cli.train import shared


@options.command()
@shared.from_prompts
@shared.samples
@shared.rounds
def quark(given: shared.Given, samples: int | None, rounds: int | None) -> int:
    """Sample, sort all samples into quantiles by reward, learn each under its token, and go on from there.

    Responses are sampled under the token of the best quantile, which the saved chat template writes too. A KL
    to the model at the start holds the policy near. A share of the prompts is never learned from: the reward
    of each round is measured on these. The same command goes on where it stopped. Ends with exit code 3 where
    a round has prompts without a response to learn from.

    \b
    Examples:
      constitute train quark --run run --prompts prompts.jsonl --rounds 4
      constitute train quark --model tuned --prompts prompts.jsonl --reward judge --out policy
    """
    from constitute.progress import open_progress

    config = given.configured({"train.best_of_n.n": samples, "train.quark.rounds": rounds})
    with open_progress(given.as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.imitation.quark import run_quark
        summary = run_quark(
            config,
            given.prompts(config, progress),
            model=given.model,
            reward=given.rewards or None,
            out=given.out,
            progress=progress,
            force=given.force,
        )
    following = shared.following("evals run", config, model=Path(summary["policy"]))
    shared.print_summary(summary, given.as_json, following, given.out or config.run / "quark")
    return shared.sampled_code(list(summary["rounds"].values()))
