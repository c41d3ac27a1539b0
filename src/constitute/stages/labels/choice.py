"""Ask which of two answers is better, A or B, in both orders, and read how likely each letter is.

Deviates from arXiv 2212.08073 (section 4.1) in showing the pair in both orders, as arXiv 2309.00267
(section 2.1) does; nothing is searched for in text, and nothing is clamped.
"""

from __future__ import annotations

from collections.abc import Sequence

from constitute.config import LabelConfig
from constitute.config.data import LAYOUTS
from constitute.stages.base import Sample
from constitute.stages.few_shot import better_first, label_shots
from constitute.stages.labels.base import LabelMethod, together
from constitute.stages.labels.read import Reading, read
from constitute.templates import render
from constitute.types import Comparison, Message, Principle, PrincipleVote

LABELS = ("A", "B")


async def choice(
    row: Comparison, principle: Principle, weight: float, sample: Sample, cfg: LabelConfig
) -> PrincipleVote:
    """Ask for the better answer in both orders. Raises `Abstain` as `read` does."""
    orders = (("AB", row), ("BA", row.swap()))
    ab, ba = await together(
        [
            read(
                sample,
                (comparison_turn(pair, principle, cfg), f"compare-{order.lower()}", principle),
                LABELS,
                cfg,
                f"under {principle.id}, order {order}",
            )
            for order, pair in orders
        ]
    )
    return vote_of(ab, ba, principle.id, weight)


def comparison_turn(
    row: Comparison, principle: Principle, cfg: LabelConfig | None = None
) -> tuple[Message, ...]:
    """The message that shows the conversation, both answers and what to compare them by.

    Judged pairs, where `label.few_shot` asks for some, stand before it as turns: the same in both orders.
    """
    cfg = cfg or LabelConfig()
    shots = label_shots(row.id, row.prompt.messages, principle, cfg)
    turns: list[Message] = []
    for shot, first in zip(shots, better_first(row.id, len(shots)), strict=True):
        answers = (shot.better, shot.worse) if first else (shot.worse, shot.better)
        turns.append(_question(shot.messages, answers, principle, cfg))
        turns.append(Message(role="assistant", content=LABELS[0] if first else LABELS[1]))
    return (*turns, _question(row.prompt.messages, (row.a, row.b), principle, cfg))


def _question(
    messages: Sequence[Message], answers: tuple[str, str], principle: Principle, cfg: LabelConfig
) -> Message:
    a, b = answers
    text = render(LAYOUTS[cfg.layout], messages=messages, a=a, b=b, principle=principle)
    return Message(role="user", content=text)


def vote_of(ab: Reading, ba: Reading, principle_id: str = "", weight: float = 1.0) -> PrincipleVote:
    """The vote behind the answers to both orders."""
    return PrincipleVote(
        principle_id=principle_id,
        weight=weight,
        p_ab=ab.shares[0],
        p_ba=1.0 - ba.shares[0],
        mass_ab=ab.mass,
        mass_ba=ba.mass,
        censored=ab.censored or ba.censored,
        samples=ab.samples,
    )


def _templates(cfg: LabelConfig) -> tuple[str, ...]:
    return (LAYOUTS[cfg.layout],)


METHOD = LabelMethod(vote=choice, needs=("choose",), sampled=True, few_shot=True, templates=_templates)
