"""Rate each answer by itself from 1 to 10 under a principle, in one pass, and compare the ratings.

After arXiv 2309.00267, section 2.3. Deviates from it in comparing the whole distributions of the ratings
instead of two means: P(A) needs no scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.config import LabelConfig
from constitute.stages.base import Sample
from constitute.stages.labels.apart import vote_apart
from constitute.stages.labels.base import LabelMethod
from constitute.stages.labels.read import read
from constitute.templates import render
from constitute.types import Comparison, Message, Principle, PrincipleVote, Prompt

RATINGS = tuple(str(rating) for rating in range(1, 11))


async def rating(
    row: Comparison, principle: Principle, weight: float, sample: Sample, cfg: LabelConfig
) -> PrincipleVote:
    """P(A) is the probability that A is rated higher, ties split. Raises `Abstain` as `read` does."""
    return await vote_apart(row, principle, weight, sample, cfg, ("rate", score_turn, RATINGS))


async def worth(prompt: Prompt, answer: str, principle: Principle, sample: Sample, cfg: LabelConfig) -> float:
    """The mean rating of an answer. Raises `Abstain` as `read` does."""
    asking = (score_turn(prompt, answer, principle), "rate", principle)
    found = await read(sample, asking, RATINGS, cfg, f"under {principle.id}, ranking")
    return expected_rating(found.shares)


def score_turn(prompt: Prompt, answer: str, principle: Principle) -> tuple[Message, ...]:
    """The one message that shows the conversation, the reply and what to rate it by."""
    text = render("score", messages=prompt.messages, answer=answer, principle=principle)
    return (Message(role="user", content=text),)


def expected_rating(shares: Sequence[float]) -> float:
    """The mean rating, from 1 to 10, of the ratings' shares."""
    return math.fsum(rating * share for rating, share in enumerate(shares, 1)) / math.fsum(shares)


def _templates(cfg: LabelConfig) -> tuple[str, ...]:
    return ("score",)


METHOD = LabelMethod(
    vote=rating,
    needs=("choose",),
    ordered=False,
    sampled=True,
    form="text",
    templates=_templates,
    worth=worth,
)
