"""How the votes of a pair's principles become its label; the registry that `label.rule` chooses from.

Deviates from arXiv 2212.08073 (section 4.1), where one principle is drawn for each pair, in deciding between
principles that pull a pair in opposite directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from constitute.config import LabelConfig
from constitute.registry import registered
from constitute.types import PreferenceLabel, PrincipleVote

# What rounding may not decide: the side of a mean of exactly 0.5 +- `label.threshold`, or what 0 to 0 is.
_ROUNDING = 1e-9
# Each level's name and the ids of the principles on it, the highest first; see `constitution.priority`.
Levels = Sequence[tuple[str, frozenset[str]]]


@dataclass(frozen=True)
class Ruling:
    """P(A), and the share that each principle has in it.

    P(A) - 1/2 is the sum over principles of share x (P(A) of its vote - 1/2); one that is not in `shares` was
    not heard. `level` is the one that decided; "" where no level did.
    """

    p_a: float
    shares: Mapping[str, float]
    level: str = ""


# (votes of a weight above 0, at least one, the levels of their principles, `label.threshold`) -> the ruling.
# It must be the same for A and B: where each vote is turned round, so is P(A).
Rule = Callable[[Sequence[PrincipleVote], Levels, float], Ruling]


def mean(votes: Sequence[PrincipleVote], levels: Levels, threshold: float) -> Ruling:
    """The mean of the votes by their weights."""
    total = math.fsum(vote.weight for vote in votes)
    p_a = math.fsum(vote.weight * vote.p_a for vote in votes) / total
    return Ruling(p_a, {vote.principle_id: vote.weight / total for vote in votes})


def priority(votes: Sequence[PrincipleVote], levels: Levels, threshold: float) -> Ruling:
    """The mean of the highest level whose mean is at least `threshold` away from 1/2; else that of all votes.

    After the chain of command of the OpenAI Model Spec (2025), where the higher authority prevails. P(A) is
    that of one level, so it jumps where a level falls silent; the answer that it prefers never turns
    against a vote that rises.
    """
    for name, members in levels:
        heard = [vote for vote in votes if vote.principle_id in members]
        if not heard:
            continue
        found = mean(heard, levels, threshold)
        if abs(found.p_a - 0.5) >= threshold - _ROUNDING:
            return Ruling(found.p_a, found.shares, name)
    return mean(votes, levels, threshold)


def least(votes: Sequence[PrincipleVote], levels: Levels, threshold: float) -> Ruling:
    """P(A) = a / (a + b), where a is the least P(A) and b the least P(B) of any vote.

    An answer is worth what it is to the principle that it satisfies least, whatever the others say and the
    weights are: the maximin rule (A. Sen, Collective Choice and Social Welfare, 1970, chapter 9), with the
    two worths as a choice by their ratio (R. D. Luce, Individual Choice Behavior, 1959). With one vote it is
    the vote. Both worths are raised by 1e-9: P(A) is 1/2 where both are 0, and does not hang on whether one
    of them was rounded to 0.
    """
    low, high = (pick(vote.p_a for vote in votes) for pick in (min, max))
    a, b = low + _ROUNDING, 1.0 - high + _ROUNDING
    total = a + b
    shares: dict[str, float] = {}
    # P(A) - 1/2 = ((a - 1/2) + (1/2 - b)) / 2 (a + b): the two ends share alike, and so do votes at one end.
    for end in (low, high):
        at = [vote.principle_id for vote in votes if vote.p_a == end]
        for name in at:
            shares[name] = shares.get(name, 0.0) + 1 / (2 * total * len(at))
    return Ruling(a / total, shares)


# Name -> the rule, or "module:object" of it.
RULES: dict[str, Rule | str] = {"mean": mean, "priority": priority, "least": least}


def rule_named(name: str) -> Rule:
    """The rule of that name; raises `UsageError` naming the nearest one that exists."""
    rule: Rule = registered(RULES, name, "label.rule")
    return rule


def settle(votes: Sequence[PrincipleVote], cfg: LabelConfig, levels: Levels) -> Ruling:
    """The ruling of `label.rule`; votes of weight 0 are not heard. Raises `ValueError` where none is left."""
    heard = [vote for vote in votes if vote.weight > 0]
    if not heard:
        raise ValueError("no vote with a weight to make a label of")
    return rule_named(cfg.rule)(heard, levels, cfg.threshold)


def label_of(votes: Sequence[PrincipleVote], cfg: LabelConfig, levels: Levels) -> PreferenceLabel:
    """The label that the votes make, with the rule and the principles that decided it."""
    found = settle(votes, cfg, levels)
    decided_by = tuple(vote.principle_id for vote in votes if vote.principle_id in found.shares)
    return PreferenceLabel(
        p_a=found.p_a, votes=tuple(votes), rule=cfg.rule, level=found.level, decided_by=decided_by
    )
