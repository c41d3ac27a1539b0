"""What a label method is, and what methods share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from constitute.config import LabelConfig
from constitute.errors import Abstain, RowError
from constitute.stages.base import Sample
from constitute.types import Ability, Comparison, Principle, PrincipleVote, Prompt, SamplingParams

T = TypeVar("T")
ONE_TOKEN = SamplingParams(max_tokens=1, temperature=0.0)
# (pair, principle, weight of its vote, sample, settings) -> the principle's vote on the pair. Raises
# `Abstain` where the judge says nothing of the pair, `RowError` where it cannot be asked.
Vote = Callable[[Comparison, Principle, float, Sample, LabelConfig], Awaitable[PrincipleVote]]

# (prompt, answer, principle, sample, settings) -> what the answer is worth by itself: only differences count.
# Raises as a `Vote` does.
Worth = Callable[[Prompt, str, Principle, Sample, LabelConfig], Awaitable[float]]


def _no_templates(cfg: LabelConfig) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class LabelMethod:
    """A way to take a vote.

    `needs` are the abilities of an engine without which it cannot vote; what an engine lacks is said before
    the run. `ordered`: the pair is shown in both orders. `sampled`: it can count sampled answers too
    (`label.votes: sampled`), and then needs nothing. `form` is the form of a principle that it shows.
    `few_shot`: it can show judged pairs before its question. `templates` names the prompt templates it asks
    with. `worth`, where it judges each answer by itself, is what `label.rank` ranks answers by.
    `alone`: it votes under the one principle that is drawn for a pair, and under no other.
    """

    vote: Vote
    needs: tuple[Ability, ...] = ()
    ordered: bool = True
    sampled: bool = False
    few_shot: bool = False
    form: Literal["compare", "text"] = "compare"
    templates: Callable[[LabelConfig], tuple[str, ...]] = _no_templates
    worth: Worth | None = None
    alone: bool = False


async def together(questions: Sequence[Awaitable[T]]) -> list[T]:
    """Ask at once and wait for all; the first failure in order is raised, so that reasons repeat."""
    results = await asyncio.gather(*questions, return_exceptions=True)
    problems = [result for result in results if isinstance(result, BaseException)]
    for problem in sorted(problems, key=lambda p: isinstance(p, RowError | Abstain)):
        raise problem
    return [result for result in results if not isinstance(result, BaseException)]
