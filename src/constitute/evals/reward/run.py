"""Score a reward model on preference files, item by item, with results that `evals compare` takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.errors import GateFailed
from constitute.evals.families.base import ItemScore
from constitute.evals.figures import refuse_unscored, share_matching
from constitute.evals.reward.boards import board_of
from constitute.evals.reward.figures import clusters_of, common_figures, score_item, subset_accuracy
from constitute.evals.reward.items import RewardItem, read_reward_items, reward_items_hash
from constitute.evals.run import SetResult, check_replaced, policy_name, result_path, save_result, set_names
from constitute.progress import Progress
from constitute.significance import clustered_mean_of
from constitute.stats import share_of
from constitute.types import AnswerReward, Prompt

# Rewards of answers, each to its prompt, one an answer.
Rewards = Callable[[Sequence[Prompt], Sequence[str]], Sequence[AnswerReward]]
# Items whose answers are scored together; batches of like length are made of these.
_TOGETHER = 64


class Rewarded(NamedTuple):
    """The rewards of an item's answers, or why it has none, and whether it failed or the judge abstained.

    `p_right` is P(a right answer is preferred) where something else than the rewards says it.
    """

    rewards: tuple[float, ...] = ()
    truncated: int = 0
    reason: str = ""
    p_right: float | None = None
    abstained: bool = False


def read_reward_sets(
    config: RunConfig, files: Sequence[Path], limit: int | None, progress: Progress
) -> dict[str, list[RewardItem]]:
    """The items of each file by the name of its set."""
    return {
        name: read_reward_items(str(path), config.read, progress.note, limit)
        for name, path in set_names(files).items()
    }


def run_reward(
    config: RunConfig,
    sets: dict[str, list[RewardItem]],
    rewards: Rewards,
    model: dict[str, Any],
    *,
    policy: str,
    progress: Progress,
) -> list[SetResult]:
    """Score the answers of each set by `rewards` of `model`, and save the results as those of `policy`.

    Raises `UsageError` where another model's result has the policy's name, and `GateFailed` where a set has
    too few scores or all of its rewards are one number; the other sets are saved before.
    """
    name = policy_name(policy, config.run)
    results: list[SetResult] = []
    failures: list[str] = []
    for one, items in sets.items():
        check_replaced(result_path(config.run, one, name), model, reward_items_hash(items), progress)
        try:
            found = _score(one, items, rewards, progress)
            results.append(reward_result(one, items, found, config.evals, name, model))
        except GateFailed as failure:
            failures.append(str(failure))
            continue
        note_truncated(results[-1], progress)
        save_result(config.run, results[-1])
    if failures:
        raise GateFailed("; ".join(failures))
    return results


def _score(name: str, items: Sequence[RewardItem], rewards: Rewards, progress: Progress) -> list[Rewarded]:
    stage = f"evals-reward/{name}"
    progress.start(stage, len(items), 0)
    found: list[Rewarded] = []
    for start in range(0, len(items), _TOGETHER):
        group = items[start : start + _TOGETHER]
        prompts = [Prompt(id=item.id, messages=item.prompt) for item in group for _ in item.answers]
        given = list(rewards(prompts, [answer for item in group for answer in item.answers]))
        for item in group:
            own, given = given[: len(item.answers)], given[len(item.answers) :]
            found.append(_of_answers(own))
            progress.advance(stage, "failed" if found[-1].reason else "ok")
    progress.finish(stage)
    return found


def _of_answers(given: Sequence[AnswerReward]) -> Rewarded:
    for one in given:
        if one.value is None:
            return Rewarded(reason=one.reason or "an answer has no reward")
        if not math.isfinite(one.value):
            return Rewarded(reason=f"a reward is {one.value}, not a finite number")
    return Rewarded(tuple(float(one.value or 0.0) for one in given), sum(one.truncated for one in given))


def reward_result(
    name: str,
    items: Sequence[RewardItem],
    found: Sequence[Rewarded],
    cfg: EvalsConfig,
    policy: str,
    model: dict[str, Any],
) -> SetResult:
    """The figures of a set: those of every file, and the published ones of a board that the file is of.

    Raises `GateFailed` where too few items have a score, or where all rewards are the same.
    """
    unparsed = dict(Counter(one.reason for one in found if one.reason).most_common())
    refuse_unscored(name, len(items), unparsed, cfg)
    scored = [
        (item, score_item(item, one.rewards, one.p_right))
        for item, one in zip(items, found, strict=True)
        if not one.reason
    ]
    scores: tuple[ItemScore, ...] = tuple(score for _, score in scored)
    if len({value for score in scores for value in score.logprobs}) == 1:
        raise GateFailed(
            f"all answers of {name} got the same reward, so no accuracy is reported; see that answers reach "
            "the model (its chat template, --max-length), and that a policy is not its own reference"
        )
    board = board_of([item.subset for item in items])
    return SetResult(
        share=share_matching(name, scores, cfg),
        p_matching=clustered_mean_of(
            [score.p_matching or 0.0 for score in scores],
            clusters_of(scores),
            f"bootstrap {name}",
            cfg.resamples,
        ),
        mass=None,
        answered=share_of(len(scores), len(items)),
        unparsed=unparsed,
        figures={
            **(board.figures(name, scored, cfg) if board else {}),
            **common_figures(name, scored, sum(one.truncated for one in found), cfg),
        },
        parts={f"subset: {part}": share for part, share in subset_accuracy(scored, name, cfg).items()},
        set=name,
        policy=policy,
        model=model,
        items_hash=reward_items_hash(items),
        failed=sum(bool(one.reason) and not one.abstained for one in found),
        scores=scores,
    )


def note_truncated(result: SetResult, progress: Progress) -> None:
    """Say how many answers were seen only in part."""
    share = result.figures["truncated answers"]
    if share.value:
        count = round(share.value * share.n)
        progress.note(
            f"{result.set}: {count} of {share.n} conversations are longer than {result.policy} reads, so "
            "it saw only their ends; raise --max-length, or take a model with a longer context"
        )
