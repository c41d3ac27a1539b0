"""Ask no question: compare how much likelier a principle makes each of two answers.

log P(answer | conversation, the principle as an instruction) - log P(answer | conversation) is what the
principle says for an answer; P(A) = sigmoid(beta x (what it says for A - what it says for B)). No answer
is shown beside another, so there is no order, and no letter has to be understood: judges that are too small
for a question still have an opinion.
"""

from __future__ import annotations

import math

from constitute.config import LabelConfig
from constitute.config.data import LikelihoodConfig
from constitute.errors import RowError
from constitute.stages.base import Sample
from constitute.stages.labels.base import ONE_TOKEN, LabelMethod, together
from constitute.templates import render
from constitute.types import Comparison, Message, Principle, PrincipleVote, Prompt, Request, Score

FOLLOW, OPPOSITE = "follow", "follow_opposite"


async def likelihood(
    row: Comparison, principle: Principle, weight: float, sample: Sample, cfg: LabelConfig
) -> PrincipleVote:
    """One vote from the four scores of a pair; what is compared against is asked once for all principles.

    Raises `RowError` for an answer that is empty or does not fit into the context.
    """
    how = cfg.likelihood
    said_a, said_b = await together(
        [
            _said_for(f"answer {name}", row.prompt, answer, principle, sample, how)
            for name, answer in (("A", row.a), ("B", row.b))
        ]
    )
    return PrincipleVote(
        principle_id=principle.id,
        weight=weight,
        p_ab=sigmoid(how.sharpness * (said_a - said_b)),
        p_ba=None,
        mass_ab=None,
        mass_ba=None,
    )


async def worth(prompt: Prompt, answer: str, principle: Principle, sample: Sample, cfg: LabelConfig) -> float:
    """What the principle says for an answer, in nats. Raises `RowError` as `likelihood` does."""
    return await _said_for("an answer", prompt, answer, principle, sample, cfg.likelihood)


async def _said_for(
    name: str, prompt: Prompt, answer: str, principle: Principle, sample: Sample, how: LikelihoodConfig
) -> float:
    """What the principle says for an answer: a difference of log-probabilities, in nats."""
    answer = answer.strip()
    if not answer:
        raise RowError(f"{name} is empty, so it has no likelihood")
    plain = prompt.messages
    follow = sample.score(
        asking(instructed(plain, FOLLOW, principle)), answer, step="score-follow", principle=principle
    )
    if how.against == "none":
        # Without a principle in the question, all principles share its answer.
        against = sample.score(asking(plain), answer, step="score-none")
    else:
        turns = instructed(plain, OPPOSITE, principle)
        against = sample.score(asking(turns), answer, step="score-opposite", principle=principle)
    try:
        with_it, without = await together([follow, against])
    except RowError as problem:
        raise RowError(f"{name} cannot be scored after its conversation: {problem}") from problem
    return difference(with_it, without, how.per)


def asking(messages: tuple[Message, ...]) -> Request:
    """The conversation as a question to score answers of."""
    return Request(messages=messages, sampling=ONE_TOKEN)


def difference(with_it: Score, without: Score, per: str) -> float:
    """log P with the instruction minus log P without, in nats: summed, or the mean over the tokens.

    Each mean goes over its own tokens: two contexts may split the first characters of a text differently.
    """
    if per == "sum":
        return with_it.total - without.total
    return with_it.total / len(with_it.token_ids) - without.total / len(without.token_ids)


def instructed(messages: tuple[Message, ...], template: str, principle: Principle) -> tuple[Message, ...]:
    """The conversation with the principle as an instruction at the end of its system turn."""
    instruction = render(template, principle=principle)
    if messages[0].role != "system":
        return (Message(role="system", content=instruction), *messages)
    told = f"{messages[0].content}\n\n{instruction}"
    return (Message(role="system", content=told), *messages[1:])


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _templates(cfg: LabelConfig) -> tuple[str, ...]:
    return (FOLLOW, OPPOSITE) if cfg.likelihood.against == "opposite" else (FOLLOW,)


METHOD = LabelMethod(
    vote=likelihood, needs=("score",), ordered=False, form="text", templates=_templates, worth=worth
)
