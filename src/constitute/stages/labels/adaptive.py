"""Which principles vote on a pair, and which of them are asked first.

Deviates from arXiv 2212.08073 (section 4.1), where one principle is drawn for each pair, in asking more where
the first ones disagree (`label.adaptive`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.config import LabelConfig
from constitute.constitution.draw import draw
from constitute.types import Constitution, Principle, PrincipleVote

# A principle and the weight of its vote.
Voter = tuple[Principle, float]
# What rounding may not decide: a margin of exactly `label.adaptive_margin`.
_ROUNDING = 1e-9


def voters(row_id: str, cfg: LabelConfig, constitution: Constitution) -> list[Voter]:
    """The principles that may vote on a pair, with the weight of each vote.

    Drawn ones (`one` or a number, without repeats) weigh 1 each, as the draw went by weight already;
    with `all`, each has its own weight, and those of weight 0 have no vote.
    """
    left = [principle for principle in constitution.principles if principle.weight > 0]
    if cfg.principles == "all":
        return [(principle, principle.weight) for principle in sorted(left, key=lambda p: p.id)]
    wanted = 1 if cfg.principles == "one" else int(cfg.principles)
    return [(principle, 1.0) for principle in _drawn(row_id, constitution, left, wanted)]


def asked_first(row_id: str, cfg: LabelConfig, everyone: Sequence[Voter]) -> list[Voter]:
    """The voters that are asked before the others: `label.adaptive` of them, or all.

    They are drawn with equal chances: each vote keeps its own weight, which must not count twice.
    """
    if cfg.adaptive is None or cfg.adaptive >= len(everyone):
        return list(everyone)
    equal = [principle.model_copy(update={"weight": 1.0}) for principle, _ in everyone]
    drawn = {
        p.id for p in _drawn(row_id, Constitution(name="-", principles=tuple(equal)), equal, cfg.adaptive)
    }
    return [voter for voter in everyone if voter[0].id in drawn]


def agree(votes: Sequence[PrincipleVote], cfg: LabelConfig) -> bool:
    """Whether all votes are on one side of 1/2, and |2 P(A) - 1| of their mean is no less than the limit."""
    sides = {(vote.p_a > 0.5) - (vote.p_a < 0.5) for vote in votes}
    total = math.fsum(vote.weight for vote in votes)
    mean = math.fsum(vote.weight * vote.p_a for vote in votes) / total
    return len(sides) == 1 and sides != {0} and abs(2 * mean - 1) >= cfg.adaptive_margin - _ROUNDING


def _drawn(row_id: str, constitution: Constitution, left: Sequence[Principle], n: int) -> list[Principle]:
    """The first `n` principles that are drawn for a row, without repeats."""
    rest = list(left)
    drawn: list[Principle] = []
    while rest and len(drawn) < n:
        principle = draw(constitution.model_copy(update={"principles": tuple(rest)}), row_id, 0)
        drawn.append(principle)
        rest.remove(principle)
    return drawn


def asking_all(cfg: LabelConfig) -> LabelConfig:
    """The settings under which every principle votes on every pair."""
    return cfg.model_copy(update={"principles": "all", "adaptive": None})
