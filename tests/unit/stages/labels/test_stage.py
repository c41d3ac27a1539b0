"""label: soft labels worked by hand, both orders, and every way to abstain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from scripted import constitution, principle, prompt

from constitute.config import LabelConfig
from constitute.constitution.draw import draw
from constitute.errors import Abstain
from constitute.stages.card import label_card
from constitute.stages.labels.adaptive import voters
from constitute.stages.labels.pairs import pair_of_revision, pair_of_samples, pairs_of
from constitute.stages.labels.stage import label
from constitute.types import (
    Choice,
    Comparison,
    Completion,
    Constitution,
    CritiqueRevision,
    LabelledPair,
    Principle,
    Request,
    Response,
)

PAIR = Comparison(id="p/0-1", prompt=prompt("p", "Hello?"), a="Hi.", b="Go away.")
Probabilities = tuple[float | None, float | None]


class Judge:
    """Gives the probabilities of A and B that `rate(step, principle id)` says."""

    def __init__(self, rate: Callable[[str, str], Probabilities]) -> None:
        self.rate = rate
        self.requests: list[tuple[str, Request]] = []

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        raise AssertionError("a label is never read from text")

    async def choose(
        self,
        request: Request,
        labels: Sequence[str],
        *,
        step: str,
        principle: Principle | None = None,
        spelled: bool = False,
    ) -> Choice:
        assert tuple(labels) == ("A", "B") and principle is not None
        self.requests.append((step, request))
        rated = self.rate(step, principle.id)
        return Choice(labels=("A", "B"), logprobs=tuple(None if p is None else math.log(p) for p in rated))


async def labelled(
    rate: Callable[[str, str], Probabilities],
    cfg: LabelConfig | None = None,
    row: Comparison = PAIR,
    under: Constitution | None = None,
) -> LabelledPair:
    cfg = cfg or LabelConfig()
    return await label(row, Judge(rate), cfg, under or constitution("kind"))


async def test_a_label_is_the_mean_over_both_orders() -> None:
    # Order AB: P(A) = 0.6 / 0.8 = 0.75. Order BA: P(first) = 0.1 / 0.5 = 0.2, so A, shown second, has 0.8.
    row = await labelled(lambda step, _: (0.6, 0.2) if step == "compare-ab" else (0.1, 0.4))
    [vote] = row.label.votes
    assert vote.p_ab == pytest.approx(0.75) and vote.p_ba == pytest.approx(0.8)
    assert vote.mass_ab == pytest.approx(0.8) and vote.mass_ba == pytest.approx(0.5)
    assert row.label.p_a == pytest.approx(0.775)
    assert (row.label.flips, row.id, row.comparison) == (0, "p/0-1", PAIR)


async def test_a_judge_who_always_takes_the_first_says_nothing() -> None:
    row = await labelled(lambda *_: (0.9, 0.1))
    assert row.label.p_a == pytest.approx(0.5) and row.label.flips == 1


async def test_both_orders_show_the_answers_swapped() -> None:
    judge = Judge(lambda *_: (0.5, 0.5))
    await label(PAIR, judge, LabelConfig(), constitution("kind"))
    texts = {step: request.messages[0].content for step, request in judge.requests}
    assert texts["compare-ab"] == (
        "Here are a conversation and two replies to it.\n\nuser: Hello?\n\n(A) Hi.\n\n(B) Go away.\n\n"
        "Which is more kind?\nAnswer with A or B."
    )
    assert "(A) Go away.\n\n(B) Hi." in texts["compare-ba"]
    assert all(len(request.messages) == 1 for _, request in judge.requests)


async def test_all_principles_vote_with_their_weights() -> None:
    under = Constitution(
        name="c", principles=(principle("kind", 3.0), principle("brief", 1.0), principle("off", 0.0))
    )
    chance = {"kind": 0.9, "brief": 0.5}

    def rate(step: str, name: str) -> Probabilities:
        p = chance[name] if step == "compare-ab" else 1 - chance[name]
        return p, 1 - p

    row = await labelled(rate, LabelConfig(principles="all"), under=under)
    assert [(v.principle_id, v.weight) for v in row.label.votes] == [("brief", 1.0), ("kind", 3.0)]
    assert row.label.p_a == pytest.approx((3 * 0.9 + 0.5) / 4)


def test_drawn_principles_are_distinct_weigh_one_and_begin_with_the_draw() -> None:
    under = constitution("kind", "brief", "safe", "calm")
    one = voters("p/0-1", LabelConfig(), under)
    assert one == [(draw(under, "p/0-1", 0), 1.0)]
    three = voters("p/0-1", LabelConfig(principles=3), under)
    assert three[0] == one[0] and len({p.id for p, _ in three}) == 3
    assert {weight for _, weight in three} == {1.0}
    assert len(voters("p/0-1", LabelConfig(principles=9), under)) == 4


@pytest.mark.parametrize(
    ("rate", "cfg", "reason"),
    [
        (lambda *_: (0.5, None), LabelConfig(), "an option was not scored under kind, order AB"),
        (
            lambda *_: (0.04, 0.05),
            LabelConfig(),
            r"P\(A\) \+ P\(B\) = 0.09 is below 0.1 under kind, order AB",
        ),
        (
            lambda step, _: (0.5, 0.4) if step == "compare-ab" else (0.1, 0.2),
            LabelConfig(min_mass=0.5),
            "order BA",
        ),
    ],
)
async def test_a_label_without_support_abstains(
    rate: Callable[[str, str], Probabilities], cfg: LabelConfig, reason: str
) -> None:
    with pytest.raises(Abstain, match=reason):
        await labelled(rate, cfg)


async def test_no_mass_at_all_abstains_whatever_is_allowed() -> None:
    class Empty(Judge):
        async def choose(self, request: Request, labels: Sequence[str], **_: object) -> Choice:
            return Choice(labels=("A", "B"), logprobs=(-math.inf, -math.inf))

    with pytest.raises(Abstain, match="is below 0 under kind"):
        await label(PAIR, Empty(lambda *_: (1, 1)), LabelConfig(min_mass=0), constitution("kind"))


async def test_an_impossible_option_is_certain_and_not_an_error() -> None:
    class Sure(Judge):
        async def choose(self, request: Request, labels: Sequence[str], *, step: str, **_: object) -> Choice:
            logprobs = (0.0, -math.inf) if step == "compare-ab" else (-math.inf, 0.0)
            return Choice(labels=("A", "B"), logprobs=logprobs)

    row = await label(PAIR, Sure(lambda *_: (1, 1)), LabelConfig(), constitution("kind"))
    assert row.label.p_a == pytest.approx(1.0)


async def test_equal_answers_abstain_before_anything_is_asked() -> None:
    judge = Judge(lambda *_: (0.5, 0.5))
    with pytest.raises(Abstain, match="the two answers are equal"):
        await label(
            PAIR.model_copy(update={"b": PAIR.a}),
            judge,
            LabelConfig(),
            constitution("kind"),
        )
    assert judge.requests == []


def test_pairs_of_samples_and_of_revisions() -> None:
    assert [pairs_of(n) for n in (1, 2, 3, 5)] == [[], [(0, 1)], [(0, 1)], [(0, 1), (2, 3)]]
    first = Response(id="p/0", prompt=prompt("p"), sample=0, response="one")
    second = Response(id="p/1", prompt=prompt("p"), sample=1, response="two")
    pair = pair_of_samples(first, second)
    assert (pair.id, pair.a, pair.b, pair.a_source, pair.b_source) == (
        "p/0-1",
        "one",
        "two",
        "response 0",
        "response 1",
    )
    steps = (CritiqueRevision(principle_id="kind", critique="c", revision="better"),) * 2
    pair = pair_of_revision(first.model_copy(update={"steps": steps}))
    assert (pair.id, pair.a, pair.b, pair.b_source) == ("p/0-rev", "one", "better", "revision 2")


async def test_the_card_counts_flips_order_and_mass() -> None:
    rows = [
        await labelled(lambda step, _: (0.6, 0.2) if step == "compare-ab" else (0.1, 0.4)),
        await labelled(lambda *_: (0.9, 0.1)),
    ]
    card = label_card(rows, abstained=3, failed=1)
    assert (card.pairs, card.abstained, card.failed, card.votes, card.flips) == (2, 3, 1, 2, 1)
    assert (
        card.flip_rate.value == 0.5 and 0.09 < card.flip_rate.low < 0.1 and 0.9 < card.flip_rate.high < 0.91
    )
    # P(first): (0.75 + 0.2) / 2 and (0.9 + 0.9) / 2.
    assert card.p_first.value == pytest.approx((0.475 + 0.9) / 2)
    assert card.p_a.value == pytest.approx((0.775 + 0.5) / 2)
    assert card.margin.value == pytest.approx(0.55 / 2)
    assert card.mass.value == pytest.approx((0.65 + 1.0) / 2) and card.least_mass == pytest.approx(0.5)


def test_the_card_of_nothing_has_no_figures() -> None:
    card = label_card([], abstained=2, failed=0)
    figures = (card.flip_rate, card.flipped_rate, card.p_a, card.entropy, card.mass, card.longer)
    assert {(each.value, each.low, each.high, each.n) for each in figures} == {(None, None, None, 0)}
    assert (card.pairs, card.least_mass, card.p_median, card.agreement) == (0, None, None, None)
