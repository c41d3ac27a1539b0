"""Let the judge reason first, then read how likely it is to choose A or B, in both orders, clamped.

arXiv 2212.08073, section 4.1: after a chain of thought the probabilities are close to 0 or 1, so they are
clamped to 40-60 %. Deviates in showing the pair in both orders.
"""

from __future__ import annotations

from constitute.config import LabelConfig
from constitute.errors import RowError
from constitute.stages.base import Sample
from constitute.stages.labels.base import ONE_TOKEN, LabelMethod, together
from constitute.stages.labels.choice import LABELS, check_mass, first_share
from constitute.templates import render
from constitute.types import Comparison, Message, Principle, PrincipleVote, Request, SamplingParams

QUESTION, REASONING = "compare_reasoned", "reasoning"


async def reasoned(
    row: Comparison, principle: Principle, weight: float, sample: Sample, cfg: LabelConfig
) -> PrincipleVote:
    """One vote: two reasonings and two choices.

    Raises `Abstain` as `choice` does, and `RowError` where a reasoning is empty or cut short.
    """
    (ab, mass_ab), (ba, mass_ba) = await together(
        [
            _order(order, pair, principle, sample, cfg)
            for order, pair in (("ab", row), ("ba", row.swap()))
        ]
    )
    return PrincipleVote(
        principle_id=principle.id,
        weight=weight,
        p_ab=ab,
        p_ba=1.0 - ba,
        mass_ab=mass_ab,
        mass_ba=mass_ba,
    )


async def _order(
    order: str, pair: Comparison, principle: Principle, sample: Sample, cfg: LabelConfig
) -> tuple[float, float]:
    """Clamped P(the answer shown first), and the mass of both options."""
    text = render(QUESTION, messages=pair.prompt.messages, a=pair.a, b=pair.b, principle=principle)
    asked = Request(
        messages=(Message(role="user", content=text),),
        prefill=render(REASONING, reasoning=""),
        sampling=SamplingParams(max_tokens=cfg.reasoning_tokens, temperature=cfg.reasoning_temperature),
    )
    said = await sample.generate(asked, step=f"reason-{order}", principle=principle)
    reasoning = said.text.strip()
    if not reasoning:
        raise RowError(f"the reasoning under {principle.id}, order {order.upper()}, is empty")
    begun = asked.model_copy(
        update={"prefill": render(REASONING, reasoning=reasoning), "sampling": ONE_TOKEN}
    )
    choice = await sample.choose(
        begun, LABELS, step=f"reasoned-{order}", principle=principle, spelled=True
    )
    check_mass(choice, f"under {principle.id}, order {order.upper()}", cfg.min_mass)
    low, high = cfg.clamp
    return min(max(first_share(choice), low), high), choice.mass


def _templates(cfg: LabelConfig) -> tuple[str, ...]:
    return (QUESTION, REASONING)


METHOD = LabelMethod(vote=reasoned, needs=("choose", "prefill"), templates=_templates)
