"""From the rewards of an item's answers to a score, and from scores to the figures of a reward model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.config.evals import EvalsConfig
from constitute.evals.families.base import ItemScore
from constitute.evals.figures import share_matching
from constitute.evals.gate import log_sum
from constitute.evals.reward.items import RewardItem
from constitute.significance import clustered_mean_of
from constitute.stats import Estimate, difference_of, share_of

Scored = Sequence[tuple[RewardItem, ItemScore]]


def score_item(item: RewardItem, rewards: Sequence[float], p_right: float | None = None) -> ItemScore:
    """An item is right where each right answer has a higher reward than each wrong one: a tie is not.

    `p_right` is P(a right answer is preferred), by the rewards' softmax where it is not given: for two
    answers that is the Bradley-Terry model of reward models and of DPO.
    """
    rewards = tuple(rewards)
    own = math.exp(log_sum(rewards[: item.right]) - log_sum(rewards)) if p_right is None else p_right
    return ItemScore(
        id=item.id,
        logprobs=rewards,
        p_matching=own,
        matching=margin_of(item, rewards) > 0,
        mass=None,
        context=item.context,
        groups=item.groups,
    )


def margin_of(item: RewardItem, rewards: Sequence[float]) -> float:
    """The lowest reward of a right answer minus the highest of a wrong one."""
    return min(rewards[: item.right]) - max(rewards[item.right :])


def common_figures(name: str, scored: Scored, truncated: int, cfg: EvalsConfig) -> dict[str, Estimate]:
    """Margin, ties, answers that were cut, and accuracy by which answer is the longer.

    `length bias` is the accuracy where the right answer is longer minus that where it is shorter, in
    characters, of means where an item has several answers.
    """
    margins = [margin_of(item, score.logprobs) for item, score in scored]
    clusters = clusters_of([score for _, score in scored])
    answers = sum(len(item.answers) for item, _ in scored)
    figures = {
        "margin": clustered_mean_of(margins, clusters, f"margin {name}", cfg.resamples),
        "ties": share_of(margins.count(0.0), len(margins)),
        "truncated answers": share_of(truncated, answers),
    }
    longer, shorter = (
        share_matching(f"{name} {way}", [score for item, score in scored if sign * _longer(item) > 0], cfg)
        for way, sign in (("longer", 1), ("shorter", -1))
    )
    figures |= {"accuracy, the right answer longer": longer, "accuracy, the right answer shorter": shorter}
    if longer.low is not None and shorter.low is not None:
        figures["length bias"] = difference_of(shorter, longer)
    return figures


def subset_accuracy(scored: Scored, name: str, cfg: EvalsConfig) -> dict[str, Estimate]:
    """The accuracy in each subset, by its name."""
    held: dict[str, list[ItemScore]] = {}
    for item, score in scored:
        if item.subset:
            held.setdefault(item.subset, []).append(score)
    return {part: share_matching(f"{name} {part}", held[part], cfg) for part in sorted(held)}


def clusters_of(scores: Sequence[ItemScore]) -> list[str]:
    """What is drawn together in an interval: the items of one prompt."""
    return [score.context or f"item {score.id}" for score in scores]


def _longer(item: RewardItem) -> float:
    """By how many characters the right answers are longer than the wrong ones, in the mean."""
    lengths = [len(answer) for answer in item.answers]
    right, wrong = lengths[: item.right], lengths[item.right :]
    return sum(right) / len(right) - sum(wrong) / len(wrong)
