"""Let the judge reason first, then read how likely it is to choose A or B, in both orders, clamped.

arXiv 2212.08073, section 4.1: after a chain of thought the probabilities are close to 0 or 1, so they are
clamped to 40-60 %. Deviates in showing the pair in both orders.
"""

from __future__ import annotations

from dataclasses import replace

from constitute.config import LabelConfig
from constitute.errors import RowError
from constitute.stages.base import Sample
from constitute.stages.labels.base import ONE_TOKEN, LabelMethod, together
from constitute.stages.labels.choice import LABELS, vote_of
from constitute.stages.labels.read import Reading, checked, of_choice
from constitute.templates import render
from constitute.types import Comparison, Message, Principle, PrincipleVote, Request, SamplingParams

QUESTION, REASONING = "compare_reasoned", "reasoning"


async def reasoned(
    row: Comparison, principle: Principle, weight: float, sample: Sample, cfg: LabelConfig
) -> PrincipleVote:
    """One vote: two reasonings and two choices.

    Raises `Abstain` as `choice` does, and `RowError` where a reasoning is empty or cut short.
    """
    ab, ba = await together(
        [_order(order, pair, principle, sample, cfg) for order, pair in (("AB", row), ("BA", row.swap()))]
    )
    return vote_of(ab, ba, principle.id, weight)


async def _order(
    order: str, pair: Comparison, principle: Principle, sample: Sample, cfg: LabelConfig
) -> Reading:
    """The clamped reading of the choice that follows the reasoning, for the pair in one order."""
    text = render(QUESTION, messages=pair.prompt.messages, a=pair.a, b=pair.b, principle=principle)
    asked = Request(
        messages=(Message(role="user", content=text),),
        prefill=render(REASONING, reasoning=""),
        sampling=SamplingParams(max_tokens=cfg.reasoning_tokens, temperature=cfg.reasoning_temperature),
    )
    said = await sample.generate(asked, step=f"reason-{order.lower()}", principle=principle)
    where, reasoning = f"under {principle.id}, order {order}", said.text.strip()
    if not reasoning:
        raise RowError(f"the reasoning is empty {where}")
    begun = asked.model_copy(
        update={"prefill": render(REASONING, reasoning=reasoning), "sampling": ONE_TOKEN}
    )
    step = f"reasoned-{order.lower()}"
    choice = await sample.choose(begun, LABELS, step=step, principle=principle, spelled=True)
    return clamped(checked(of_choice(choice, where), LABELS, cfg, where), cfg.clamp)


def clamped(reading: Reading, bounds: tuple[float, float]) -> Reading:
    """The reading with both shares within `bounds`, which lie at equal distance from 1/2."""
    first = min(max(reading.shares[0], bounds[0]), bounds[1])
    return replace(reading, shares=(first, 1.0 - first))


def _templates(cfg: LabelConfig) -> tuple[str, ...]:
    return (QUESTION, REASONING)


METHOD = LabelMethod(vote=reasoned, needs=("choose", "prefill"), templates=_templates)
