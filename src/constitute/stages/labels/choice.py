"""Ask which of two answers is better, A or B, in both orders, and read log-probabilities of the letters.

Deviates from arXiv 2212.08073 (section 4.1) in showing the pair in both orders, as arXiv 2309.00267
(section 2.1) does; nothing is read from text, and nothing is clamped.
"""

from __future__ import annotations

import math

from constitute.config import LabelConfig
from constitute.config.data import LAYOUTS
from constitute.errors import Abstain
from constitute.stages.base import Sample
from constitute.stages.labels.base import ONE_TOKEN, LabelMethod, together
from constitute.templates import render
from constitute.types import Choice, Comparison, Message, Principle, PrincipleVote, Request

LABELS = ("A", "B")


async def choice(
    row: Comparison, principle: Principle, weight: float, sample: Sample, cfg: LabelConfig
) -> PrincipleVote:
    """Ask which answer is better, A or B, in both orders, and read the log-probabilities of both labels.

    Raises `Abstain` as `check_mass` does.
    """
    choices = await together(
        [
            sample.choose(
                Request(messages=comparison_turn(pair, principle, cfg.layout), sampling=ONE_TOKEN),
                LABELS,
                step=order,
                principle=principle,
            )
            for order, pair in (("compare-ab", row), ("compare-ba", row.swap()))
        ]
    )
    for order, choice in zip(("AB", "BA"), choices, strict=True):
        check_mass(choice, f"under {principle.id}, order {order}", cfg.min_mass)
    return vote_of(choices[0], choices[1], principle.id, weight)


def comparison_turn(row: Comparison, principle: Principle, layout: str = "shared") -> tuple[Message, ...]:
    """The one message that shows the conversation, both answers and what to compare them by."""
    text = render(LAYOUTS[layout], messages=row.prompt.messages, a=row.a, b=row.b, principle=principle)
    return (Message(role="user", content=text),)


def vote_of(ab: Choice, ba: Choice, principle_id: str = "", weight: float = 1.0) -> PrincipleVote:
    """The vote behind the answers to both orders; both have been checked."""
    return PrincipleVote(
        principle_id=principle_id,
        weight=weight,
        p_ab=first_share(ab),
        p_ba=1.0 - first_share(ba),
        mass_ab=ab.mass,
        mass_ba=ba.mass,
    )


def first_share(choice: Choice) -> float:
    """P(first label) among the two, from their log-probabilities; both must have been scored."""
    first, second = choice.logprobs
    assert first is not None and second is not None, "checked before"
    return 1.0 / (1.0 + math.exp(min(second - first, 700.0)))


def check_mass(choice: Choice, where: str, min_mass: float) -> None:
    """Raise `Abstain` for a label that was not scored, and for label mass under `min_mass`."""
    if any(value is None for value in choice.logprobs):
        raise Abstain(f"an option was not scored {where}")
    if not choice.mass >= max(min_mass, 1e-30):
        raise Abstain(f"P(A) + P(B) = {choice.mass:.3g} is below {min_mass:g} {where}")


def _templates(cfg: LabelConfig) -> tuple[str, ...]:
    return (LAYOUTS[cfg.layout],)


METHOD = LabelMethod(vote=choice, needs=("choose",), templates=_templates)
