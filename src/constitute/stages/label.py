"""Label a pair with a soft preference: log-probabilities of "A" and "B", in both orders.

Deviates from arXiv 2212.08073 (section 4.1) in showing the pair in both orders, as arXiv 2309.00267
(section 2.1) does; nothing is read from text, and nothing is clamped.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from constitute.config import LabelConfig
from constitute.config.data import LAYOUTS
from constitute.constitution.draw import draw
from constitute.errors import Abstain, RowError
from constitute.registry import registered
from constitute.stages.base import Sample, StageSpec
from constitute.templates import render
from constitute.types import (
    Choice,
    Comparison,
    Constitution,
    LabelledPair,
    Message,
    PreferenceLabel,
    Principle,
    PrincipleVote,
    Request,
    Response,
    SamplingParams,
)

T = TypeVar("T")
LABELS = ("A", "B")
ONE_TOKEN = SamplingParams(max_tokens=1, temperature=0.0)
# (pair, principle, weight of its vote, sample, settings) -> the principle's vote on the pair.
LabelMethod = Callable[[Comparison, Principle, float, Sample, LabelConfig], Awaitable[PrincipleVote]]
# Name -> "module:function" of a `LabelMethod`; `label.method` chooses one.
LABEL_METHODS: dict[str, str] = {"choice": "constitute.stages.label:choice"}


async def label(
    row: Comparison, sample: Sample, cfg: LabelConfig, constitution: Constitution
) -> LabelledPair:
    """The pair with P(A) as the weighted mean of its votes, one vote a principle.

    Raises `Abstain` for equal answers, for a label that was not scored, and for label mass under
    `cfg.min_mass`: a pair is labelled by every principle asked, or not at all.
    """
    if row.a == row.b:
        raise Abstain("the two answers are equal")
    vote = label_method(cfg.method)
    votes = await _together([vote(row, p, w, sample, cfg) for p, w in voters(row.id, cfg, constitution)])
    total = math.fsum(vote.weight for vote in votes)
    p_a = math.fsum(vote.weight * vote.p_a for vote in votes) / total
    return LabelledPair(id=row.id, comparison=row, label=PreferenceLabel(p_a=p_a, votes=tuple(votes)))


def voters(row_id: str, cfg: LabelConfig, constitution: Constitution) -> list[tuple[Principle, float]]:
    """The principles that vote on a pair, with the weight of each vote.

    Drawn ones (`one` or a number, without repeats) weigh 1 each, as the draw went by weight already;
    with `all`, each has its own weight, and those of weight 0 have no vote.
    """
    left = [principle for principle in constitution.principles if principle.weight > 0]
    if cfg.principles == "all":
        return [(principle, principle.weight) for principle in sorted(left, key=lambda p: p.id)]
    wanted = 1 if cfg.principles == "one" else int(cfg.principles)
    drawn: list[tuple[Principle, float]] = []
    while left and len(drawn) < wanted:
        principle = draw(constitution.model_copy(update={"principles": tuple(left)}), row_id, 0)
        drawn.append((principle, 1.0))
        left.remove(principle)
    return drawn


def comparison_turn(row: Comparison, principle: Principle, layout: str = "shared") -> tuple[Message, ...]:
    """The one message that shows the conversation, both answers and what to compare them by."""
    text = render(LAYOUTS[layout], messages=row.prompt.messages, a=row.a, b=row.b, principle=principle)
    return (Message(role="user", content=text),)


def label_method(name: str) -> LabelMethod:
    """The method of that name; raises `UsageError` naming the nearest one that exists."""
    method: LabelMethod = registered(LABEL_METHODS, name, "label.method")
    return method


async def choice(
    row: Comparison, principle: Principle, weight: float, sample: Sample, cfg: LabelConfig
) -> PrincipleVote:
    """Ask which answer is better, A or B, in both orders, and read the log-probabilities of both labels.

    Raises `Abstain` as `check_mass` does.
    """
    choices = await _together(
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


async def _together(questions: Sequence[Awaitable[T]]) -> list[T]:
    """Ask at once and wait for all; the first failure in order is raised, so that reasons repeat."""
    results = await asyncio.gather(*questions, return_exceptions=True)
    problems = [result for result in results if isinstance(result, BaseException)]
    for problem in sorted(problems, key=lambda p: isinstance(p, RowError | Abstain)):
        raise problem
    return [result for result in results if not isinstance(result, BaseException)]


def pairs_of(n: int) -> list[tuple[int, int]]:
    """Which of a prompt's n samples are compared: 0 with 1, 2 with 3; an odd last one is left out."""
    return [(at, at + 1) for at in range(0, n - 1, 2)]


def pair_of_samples(first: Response, second: Response) -> Comparison:
    """Two responses to one prompt as a comparison."""
    return Comparison(
        id=f"{first.id}-{second.sample}",
        prompt=first.prompt,
        a=first.response,
        b=second.response,
        a_source=f"response {first.sample}",
        b_source=f"response {second.sample}",
    )


def pair_of_revision(row: Response) -> Comparison:
    """The first response (A) against the last revision (B)."""
    return Comparison(
        id=f"{row.id}-rev",
        prompt=row.prompt,
        a=row.response,
        b=row.final,
        a_source="response",
        b_source=f"revision {len(row.steps)}",
    )


def _templates(cfg: LabelConfig) -> tuple[str, ...]:
    return (LAYOUTS[cfg.layout],)


def _check(cfg: LabelConfig) -> None:
    label_method(cfg.method)


STAGE = StageSpec(reads="pair", work=label, settings=LabelConfig, templates=_templates, check=_check)
