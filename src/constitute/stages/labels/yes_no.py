"""Ask of each answer by itself whether it keeps to a principle, and compare how likely "Yes" is."""

from __future__ import annotations

from constitute.config import LabelConfig
from constitute.stages.base import Sample
from constitute.stages.labels.apart import vote_apart
from constitute.stages.labels.base import LabelMethod
from constitute.stages.labels.read import read
from constitute.templates import render
from constitute.types import Comparison, Message, Principle, PrincipleVote, Prompt

NO_YES = ("No", "Yes")


async def yes_no(
    row: Comparison, principle: Principle, weight: float, sample: Sample, cfg: LabelConfig
) -> PrincipleVote:
    """P(A) = 1/2 + (P(yes to A) - P(yes to B)) / 2. Raises `Abstain` as `read` does."""
    return await vote_apart(row, principle, weight, sample, cfg, ("yes-no", yes_no_turn, NO_YES))


async def worth(prompt: Prompt, answer: str, principle: Principle, sample: Sample, cfg: LabelConfig) -> float:
    """P(yes) of an answer. Raises `Abstain` as `read` does."""
    asking = (yes_no_turn(prompt, answer, principle), "yes-no", principle)
    found = await read(sample, asking, NO_YES, cfg, f"under {principle.id}, ranking")
    return found.shares[1]


def yes_no_turn(prompt: Prompt, answer: str, principle: Principle) -> tuple[Message, ...]:
    """The one message that shows the conversation, the reply and the principle it may keep to."""
    text = render("yes_no", messages=prompt.messages, answer=answer, principle=principle)
    return (Message(role="user", content=text),)


def _templates(cfg: LabelConfig) -> tuple[str, ...]:
    return ("yes_no",)


METHOD = LabelMethod(
    vote=yes_no,
    needs=("choose",),
    ordered=False,
    sampled=True,
    form="text",
    templates=_templates,
    worth=worth,
)
