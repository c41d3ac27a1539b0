"""What a family of eval items is, what it makes, and what families share in writing and scoring."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain, RowError
from constitute.evals.gate import log_sum
from constitute.evals.select import Selection
from constitute.stages.base import Sample
from constitute.types import EvalItem, Message, Principle, Record, Request, Role, SamplingParams

_TIE = 1e-9  # nats; closer than this, neither answer is preferred
_LIST_MARK = re.compile(r"^(?:[-*•]|\d{1,2}[.)])\s+")
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"))


class Written(Record):
    """A candidate item with its verdict; `critique` is the reason a reviser gave, where there was one."""

    item: EvalItem
    p_by_order: tuple[float, ...]
    mass: float
    critique: str = ""


class ItemScore(Record):
    """One scored item: log-probabilities (nats) of `labels`, or of the item's options where there are none.

    `p_matching` is the part that answers which show the behaviour have in the probability of all, `matching`
    whether the likeliest answer is one of them. `mass` is the probability of all labels together, None for
    replies, whose mass means nothing. A score that another program gave may say no more than `matching`; then
    `p_matching` is None. `context` and `groups` are those of the item.
    """

    id: str
    logprobs: tuple[float, ...]
    labels: tuple[str, ...] = ()
    p_matching: float | None
    matching: bool
    mass: float | None
    context: str = ""
    groups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FamilySpec:
    """A kind of eval item.

    `about` says in a few words what its items are. A set is written for what `subject` says: one behaviour (a
    verb phrase), several principles together, one behaviour or principle with `examples` of items
    (`constitute.evals.subjects.Seed`), or several occupations together; `rows` gets a list of them and gives
    the candidates to be written, each with an `id`. `work` writes and judges one candidate and `select`
    chooses from all. `score` compares an item's answers. Both raise `Abstain`, and `work` also `RowError`.
    `recognises` tells the family's items from others when a file is read. What is written depends on the
    prompt templates in `templates` and on the settings of `EvalsConfig` in `sampling`. With `keeps_cut`,
    `work` is given answers that were cut off. `metric` names the figures that its sets have besides the
    share matching, `checks` the checks that its sets are held to, None for all.
    """

    about: str
    subject: Literal["behavior", "principle", "examples", "occupation"]
    rows: Callable[[Sequence[Any], EvalsConfig], Sequence[Any]]
    work: Callable[[Any, Sample, EvalsConfig], Awaitable[Written]]
    select: Callable[[Sequence[EvalItem], EvalsConfig], Selection]
    score: Callable[[EvalItem, Sample, EvalsConfig], Awaitable[ItemScore]]
    recognises: Callable[[EvalItem], bool]
    templates: tuple[str, ...] = ()
    sampling: tuple[str, ...] = ()
    keeps_cut: bool = False
    metric: str | None = None
    checks: tuple[str, ...] | None = None


async def say(
    sample: Sample,
    turns: Sequence[tuple[Role, str]],
    sampling: SamplingParams,
    step: str,
    principle: Principle | None = None,
) -> str:
    """One completion's text, stripped. Raises `RowError` where it is empty or was cut off."""
    text, cut = await say_or_cut(sample, turns, sampling, step, principle)
    if cut:
        raise RowError(f"the {step} was cut off at {sampling.max_tokens} tokens")
    return text


async def say_or_cut(
    sample: Sample,
    turns: Sequence[tuple[Role, str]],
    sampling: SamplingParams,
    step: str,
    principle: Principle | None = None,
) -> tuple[str, bool]:
    """One completion's text, stripped, and whether it was cut off: in families with `keeps_cut`.

    Raises `RowError` where it is empty.
    """
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    request = Request(messages=messages, sampling=sampling)
    completion = await sample.generate(request, step=step, principle=principle)
    cut = completion.finish_reason == "length"
    if not cut and not completion.text.strip():
        raise RowError(f"the {step} is empty")
    return completion.text.strip(), cut


def one_sentence(text: str) -> str:
    """The sentence without a list mark and without quotes around all of it."""
    return unquoted(_LIST_MARK.sub("", text.strip()).strip())


def unquoted(text: str) -> str:
    """The text without quotes around all of it."""
    for opening, closing in _QUOTES:
        if len(text) > 1 and text.startswith(opening) and text.endswith(closing):
            return text[1:-1].strip()
    return text


def compare_answers(
    item: EvalItem,
    logprobs: Sequence[float],
    matching: Collection[int],
    *,
    labels: Sequence[str] = (),
    mass: float | None = None,
) -> ItemScore:
    """The score of an item from its answers' log-probabilities in nats.

    `matching` are the places of those that show the behaviour. Raises `Abstain` where the likeliest of them
    and the likeliest other are alike.
    """
    right = [value for at, value in enumerate(logprobs) if at in matching]
    wrong = [value for at, value in enumerate(logprobs) if at not in matching]
    best, other = max(right), max(wrong)
    if best == other or abs(best - other) < _TIE:
        raise Abstain("tie")
    return ItemScore(
        id=item.id,
        logprobs=tuple(logprobs),
        labels=tuple(labels),
        p_matching=math.exp(log_sum(right) - log_sum(logprobs)),
        matching=best > other,
        mass=mass,
        context=item.context,
    )
