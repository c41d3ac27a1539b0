"""likelihood and reasoned: votes worked by hand, what is asked, and what cannot be voted on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from scripted import principle, prompt

from constitute.config import LabelConfig
from constitute.config.data import LikelihoodConfig
from constitute.errors import RowError
from constitute.stages.labels.likelihood import likelihood
from constitute.stages.labels.reasoned import reasoned
from constitute.types import Choice, Comparison, Completion, Request, Score

PAIR = Comparison(id="p/0-1", prompt=prompt("p", "Hello?"), a="Hi.", b="Go away.")
# Sums over 2 tokens for A and 4 for B, by step and answer.
SUMS = {
    ("score-follow", "Hi."): -2.0,
    ("score-none", "Hi."): -3.0,
    ("score-opposite", "Hi."): -5.0,
    ("score-follow", "Go away."): -8.0,
    ("score-none", "Go away."): -4.0,
    ("score-opposite", "Go away."): -2.0,
}


class Judge:
    """Scores from `SUMS`; reasons with `reasoning`; gives the option shown first probability `first`."""

    def __init__(self, first: float = 0.5, reasoning: str = " It is kind. ") -> None:
        self.first, self.reasoning = first, reasoning
        self.asked: list[tuple[str, Request, str]] = []

    async def score(self, request: Request, text: str, *, step: str, **_: Any) -> Score:
        self.asked.append((step, request, text))
        n = 2 if text == "Hi." else 4
        return Score(token_ids=tuple(range(n)), logprobs=(SUMS[step, text] / n,) * n)

    async def generate(self, request: Request, *, step: str, **_: Any) -> Completion:
        self.asked.append((step, request, ""))
        return Completion(text=self.reasoning)

    async def choose(self, request: Request, labels: Sequence[str], *, step: str, **_: Any) -> Choice:
        self.asked.append((step, request, ""))
        first = self.first if step == "reasoned-ab" else 1 - self.first
        return Choice(labels=tuple(labels), logprobs=(math.log(0.8 * first), math.log(0.8 * (1 - first))))


@pytest.mark.parametrize(
    ("against", "per", "logit"),
    [
        # A: (-2 - -3) / 2 = 0.5; B: (-8 - -4) / 4 = -1.
        ("none", "token", 1.5),
        ("none", "sum", 1.0 + 4.0),
        ("opposite", "token", 1.5 + 1.5),
        ("opposite", "sum", 3.0 + 6.0),
    ],
)
async def test_a_vote_is_the_difference_of_differences(against: Any, per: Any, logit: float) -> None:
    cfg = LabelConfig(likelihood=LikelihoodConfig(against=against, per=per, beta=0.5))
    judge: Any = Judge()
    vote = await likelihood(PAIR, principle("kind"), 2.0, judge, cfg)
    assert vote.p_a == pytest.approx(1 / (1 + math.exp(-0.5 * logit)))
    assert (vote.weight, vote.p_ba, vote.mass_ab, vote.mass_ba, vote.flips) == (2.0, None, None, None, None)
    swapped = await likelihood(PAIR.swap(), principle("kind"), 2.0, judge, cfg)
    assert swapped.p_a == pytest.approx(1 - vote.p_a)
    follow = next(request for step, request, _ in judge.asked if step == "score-follow")
    assert [m.content for m in follow.messages] == [
        "Follow this principle in your answer: Be kind.",
        "Hello?",
    ]


async def test_an_empty_answer_has_no_likelihood() -> None:
    judge: Any = Judge()
    with pytest.raises(RowError, match="answer B is empty"):
        await likelihood(PAIR.model_copy(update={"b": " "}), principle("kind"), 1.0, judge, LabelConfig())


@pytest.mark.parametrize(("clamp", "p"), [((0.4, 0.6), 0.6), ((0.0, 1.0), 0.9)])
async def test_reasoning_is_shown_before_the_choice_which_is_clamped(clamp: Any, p: float) -> None:
    judge: Any = Judge(first=0.9)
    vote = await reasoned(PAIR, principle("kind"), 1.0, judge, LabelConfig(clamp=clamp))
    assert (vote.p_ab, vote.p_ba) == (pytest.approx(p), pytest.approx(p))
    assert vote.mass_ab == pytest.approx(0.8)
    by_step = {step: request for step, request, _ in judge.asked}
    assert by_step["reason-ab"].prefill == "Let's think step by step:"
    wanted = "Let's think step by step: It is kind.\n\nThe answer is:"
    assert by_step["reasoned-ab"].prefill == by_step["reasoned-ba"].prefill == wanted
    assert "(A) Go away." in by_step["reasoned-ba"].messages[0].content


async def test_no_reasoning_is_a_failed_row() -> None:
    judge: Any = Judge(reasoning=" ")
    with pytest.raises(RowError, match="the reasoning is empty under kind, order AB"):
        await reasoned(PAIR, principle("kind"), 1.0, judge, LabelConfig())


@pytest.mark.parametrize("clamp", [(0.3, 0.6), (0.6, 0.4), (-0.1, 1.1)])
def test_a_clamp_that_favours_one_answer_is_refused(clamp: Any) -> None:
    with pytest.raises(ValueError, match="equal distance"):
        LabelConfig(clamp=clamp)
