"""label.adaptive: who is asked first, when that is enough, and what the label is then, by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import constitution, principle, prompt

from constitute.config import LabelConfig
from constitute.constitution.draw import draw
from constitute.errors import Abstain, UsageError
from constitute.stages import stage_spec
from constitute.stages.card import label_card
from constitute.stages.labels.adaptive import agree, asked_first, asking_all, voters
from constitute.stages.labels.stage import label
from constitute.types import (
    Choice,
    Comparison,
    Completion,
    Constitution,
    LabelledPair,
    Principle,
    PrincipleVote,
    Request,
    Score,
)

NAMES = ("brief", "calm", "fair", "kind", "safe", "true")
UNDER = constitution(*NAMES)
PAIR = Comparison(id="p/0-1", prompt=prompt("p", "Hello?"), a="Hi.", b="Go away.")
ADAPTIVE = LabelConfig(principles="all", adaptive=2)


class Judge:
    """P(A) of each principle, the same in both orders; a principle without one gets no mass."""

    def __init__(self, p_a: Callable[[str], float | None]) -> None:
        self.p_a = p_a
        self.asked: list[str] = []

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        raise AssertionError("a label is never read from text")

    async def score(
        self, request: Request, text: str, *, step: str, principle: Principle | None = None
    ) -> Score:
        raise AssertionError("nothing is scored")

    async def choose(
        self,
        request: Request,
        labels: Sequence[str],
        *,
        step: str,
        principle: Principle | None = None,
        spelled: bool = False,
    ) -> Choice:
        assert principle is not None
        self.asked.append(principle.id)
        p = self.p_a(principle.id)
        if p is None:
            return Choice(labels=("A", "B"), logprobs=(math.log(1e-3), math.log(1e-3)))
        first = p if step == "compare-ab" else 1 - p
        return Choice(labels=("A", "B"), logprobs=(math.log(first), math.log(1 - first)))


def first_of(pair_id: str, under: Constitution = UNDER, cfg: LabelConfig = ADAPTIVE) -> list[str]:
    return [each.id for each, _ in asked_first(pair_id, cfg, voters(pair_id, cfg, under))]


async def labelled(
    p_a: Callable[[str], float | None], cfg: LabelConfig = ADAPTIVE, under: Constitution = UNDER
) -> tuple[LabelledPair, Judge]:
    judge = Judge(p_a)
    return await label(PAIR, judge, cfg, under), judge


async def test_where_the_first_agree_nobody_else_is_asked() -> None:
    first = first_of(PAIR.id)
    row, judge = await labelled(lambda name: {first[0]: 0.9, first[1]: 0.7}[name])
    assert Counter(judge.asked) == {first[0]: 2, first[1]: 2}
    assert [vote.principle_id for vote in row.label.votes] == first
    assert row.label.p_a == pytest.approx(0.8) and row.label.voters == 6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.9, 0.4),  # on both sides
        (0.9, 0.5),  # on no side
        (0.54, 0.55),  # a margin of 0.09, below 0.1
    ],
)
async def test_where_the_first_disagree_all_others_are_asked(one: float, other: float) -> None:
    first = first_of(PAIR.id)
    p = dict.fromkeys(NAMES, 0.2) | {first[0]: one, first[1]: other}
    row, judge = await labelled(p.__getitem__)
    assert Counter(judge.asked) == dict.fromkeys(NAMES, 2)
    # The row is the one that asking all gives, but for the number of those who could have voted.
    everyone, _ = await labelled(p.__getitem__, LabelConfig(principles="all"))
    assert row.label.p_a == pytest.approx((one + other + 4 * 0.2) / 6)
    assert row.label.model_copy(update={"voters": 0}) == everyone.label
    assert (row.label.voters, len(row.label.votes)) == (6, 6)


async def test_a_margin_of_exactly_the_limit_is_enough() -> None:
    row, _ = await labelled(lambda name: 0.55)
    assert len(row.label.votes) == 2
    row, _ = await labelled(lambda name: 0.501, LabelConfig(principles="all", adaptive=2, adaptive_margin=0))
    assert len(row.label.votes) == 2


async def test_votes_keep_their_weights_and_the_draw_does_not_count_them_twice() -> None:
    under = Constitution(
        name="c", principles=(principle("kind", 3.0), principle("brief", 1.0), principle("safe", 2.0))
    )
    first = first_of(PAIR.id, under)
    weight = {"kind": 3.0, "brief": 1.0, "safe": 2.0}
    row, _ = await labelled(lambda name: {first[0]: 0.9, first[1]: 0.7}[name], under=under)
    w, v = (weight[name] for name in first)
    assert [vote.weight for vote in row.label.votes] == [w, v]
    assert row.label.p_a == pytest.approx((w * 0.9 + v * 0.7) / (w + v))


async def test_an_abstention_among_the_first_settles_nothing_and_the_pair_abstains_as_with_all() -> None:
    first = first_of(PAIR.id)
    with pytest.raises(Abstain, match=f"is below 0.1 under {first[1]}"):
        await labelled(lambda name: None if name == first[1] else 0.9)
    other = next(name for name in NAMES if name not in first)
    with pytest.raises(Abstain, match=f"is below 0.1 under {other}"):
        await labelled(lambda name: None if name == other else 0.9 if name == first[0] else 0.1)


def test_each_principle_is_asked_first_about_equally_often_whatever_its_weight() -> None:
    under = Constitution(
        name="c", principles=tuple(principle(name, 1.0 + 9 * (name == "kind")) for name in NAMES)
    )
    asked = Counter(name for at in range(1200) for name in first_of(f"p{at}/0-1", under))
    # Each is among the 2 of 6 with a chance of 1/3: 400 of 1200, with a standard deviation of 16.3.
    assert sum(asked.values()) == 2400
    assert all(abs(count - 400) < 4 * 16.4 for count in asked.values())


def test_the_one_that_is_drawn_alone_is_among_the_first() -> None:
    for at in range(100):
        first = first_of(f"p{at}")
        assert draw(UNDER, f"p{at}", 0).id in first and len(first) == 2
        assert set(first) <= set(first_of(f"p{at}", cfg=LabelConfig(principles="all", adaptive=4)))


def test_adding_a_principle_changes_few_of_those_asked_first() -> None:
    more = constitution(*NAMES, "wise")
    kept = sum(first_of(f"p{at}") == first_of(f"p{at}", more) for at in range(700))
    # The new one is among the first 2 of 7 in 2/7 of the pairs, 200 of 700, with a standard deviation of 12.
    assert abs(700 - kept - 200) < 48


def test_drawn_voters_are_a_part_of_those_drawn_in_all() -> None:
    cfg = LabelConfig(principles=4, adaptive=2)
    everyone = {p.id for p, _ in voters("p", cfg, UNDER)}
    first = asked_first("p", cfg, voters("p", cfg, UNDER))
    assert {p.id for p, _ in first} < everyone and [w for _, w in first] == [1.0, 1.0]
    assert asking_all(cfg) == LabelConfig(principles="all")


def votes(*p_a: float) -> list[PrincipleVote]:
    return [
        PrincipleVote(principle_id=f"v{n}", weight=1.0, p_ab=p, p_ba=None, mass_ab=None, mass_ba=None)
        for n, p in enumerate(p_a)
    ]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0, 1))
def test_agreement_is_the_same_with_a_and_b_exchanged(p_a: list[float], margin: float) -> None:
    cfg = LabelConfig(principles="all", adaptive=2, adaptive_margin=margin)
    turned = [1 - p for p in p_a]
    if all(abs(p - 0.5) > 1e-6 for p in p_a) and abs(abs(2 * sum(p_a) / len(p_a) - 1) - margin) > 1e-6:
        assert agree(votes(*p_a), cfg) == agree(votes(*turned), cfg)


@pytest.mark.parametrize(
    ("cfg", "part"),
    [
        (LabelConfig(adaptive=4), "label.principles=one leaves none to ask after them"),
        (LabelConfig(adaptive=4, principles=4), "label.principles=4 leaves none"),
        (LabelConfig(adaptive=4, principles="all", rule="least"), "the rule least hangs on every vote"),
        (LabelConfig(method="construction", principles="all"), "set label.principles=one"),
        (LabelConfig(pairs="best_worst", rank="choice"), "judges no answer by itself"),
        (LabelConfig(pairs="best_wrost"), "no such label.pairs: 'best_wrost'; did you mean 'best_worst'"),
        (LabelConfig(pairs="best_worst", rank="likelihood", votes="sampled"), "label.rank: likelihood takes"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(cfg: LabelConfig, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        stage_spec("label").check(cfg)


async def test_the_card_counts_what_the_first_settled() -> None:
    first = first_of(PAIR.id)
    settled, _ = await labelled(lambda name: 0.9)
    not_settled, _ = await labelled(lambda name: 0.9 if name == first[0] else 0.1)
    card = label_card([settled, settled, not_settled], 0, 0)
    assert card.first_asked is not None
    assert (card.first_asked.votes, card.first_asked.voters) == (2 + 2 + 6, 18)
    assert (card.first_asked.settled.n, card.first_asked.settled.value) == (3, pytest.approx(2 / 3))
    plain, _ = await labelled(lambda name: 0.9, LabelConfig(principles="all"))
    assert label_card([plain], 0, 0).first_asked is None
    assert "voters" not in plain.label.model_dump()
