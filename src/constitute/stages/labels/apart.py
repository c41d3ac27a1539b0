"""What methods share that judge each answer by itself: no order is shown, so none can bias the vote."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from constitute.config import LabelConfig
from constitute.stages.base import Sample
from constitute.stages.labels.base import together
from constitute.stages.labels.read import read
from constitute.types import Comparison, Message, Principle, PrincipleVote, Prompt

# (prompt, answer, principle) -> the messages that ask about the answer.
Turn = Callable[[Prompt, str, Principle], tuple[Message, ...]]


async def vote_apart(
    row: Comparison,
    principle: Principle,
    weight: float,
    sample: Sample,
    cfg: LabelConfig,
    asking: tuple[str, Turn, Sequence[str]],
) -> PrincipleVote:
    """The vote from one question an answer; `asking` is its step, its words and its options, the least first.

    The question is the same in every pair that an answer is part of, so its log-probabilities are asked for
    once a run. `mass_ab` is the lesser of the two answers' masses. Raises `Abstain` as `read` does.
    """
    step, turn, options = asking
    a, b = await together(
        [
            read(
                sample,
                (turn(row.prompt, answer, principle), step, principle),
                options,
                cfg,
                f"under {principle.id}, answer {name}",
            )
            for name, answer in (("A", row.a), ("B", row.b))
        ]
    )
    return PrincipleVote(
        principle_id=principle.id,
        weight=weight,
        p_ab=greater(a.shares, b.shares),
        p_ba=None,
        mass_ab=min(a.mass, b.mass),
        mass_ba=None,
        censored=a.censored or b.censored,
        samples=a.samples,
    )


def greater(a: Sequence[float], b: Sequence[float]) -> float:
    """P(A's grade is greater than B's) + P(equal) / 2, for independent grades of these shares.

    Free of parameters; with two grades it is 1/2 + (P(A is good) - P(B is good)) / 2.
    """
    below = [math.fsum(b[:grade]) + b[grade] / 2 for grade in range(len(b))]
    return min(1.0, math.fsum(share * less for share, less in zip(a, below, strict=True)))
