"""`constitute train expert-iteration`: rounds of best-of-n and fine-tuning, until the reward stops rising."""

from __future__ import annotations

from pathlib import Path

from constitute.cli import options
from constitute.cli.train import shared


@options.command("expert-iteration")
@shared.from_prompts
@shared.samples
@shared.rounds
def expert_iteration(given: shared.Given, samples: int | None, rounds: int | None) -> int:
    """Sample, keep the best of n, fine-tune on them, and go on from the new model, round after round.

    A share of the prompts is never trained on. The rounds end where the reward on these no longer rises by a
    paired test, and the model before is the result; the summary names its folder. The same command goes on
    where it stopped. Ends with exit code 3 where a round has prompts without a completion to learn from.

    \b
    Examples:
      constitute train expert-iteration --run run --prompts prompts.jsonl --rounds 3 -n 16
      constitute train expert-iteration --model tuned --prompts prompts.jsonl --reward reward --out rounds
    """
    from constitute.progress import open_progress

    config = given.configured({"train.best_of_n.n": samples, "train.expert_iteration.rounds": rounds})
    with open_progress(given.as_json) as progress:
        with progress.waiting(shared.STARTING):
            from constitute.train.imitation.expert import run_expert_iteration
        summary = run_expert_iteration(
            config,
            given.prompts(config, progress),
            model=given.model,
            reward=given.rewards or None,
            out=given.out,
            progress=progress,
            force=given.force,
        )
    following = shared.following("evals run", config, model=Path(summary["policy"]))
    shared.print_summary(summary, given.as_json, following, given.out or config.run / "expert-iteration")
    return shared.sampled_code(list(summary["rounds"].values()))
