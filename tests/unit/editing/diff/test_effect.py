"""The effect of an edit on pairs and the contest of two constitutions, against hand-worked figures."""

from __future__ import annotations

import itertools
import math
import random
from functools import partial
from statistics import NormalDist

import pytest
from scripted import prompt

from constitute.config import LabelConfig
from constitute.editing.compare.figures import Contest, Judgement, contests_of, judgement_of
from constitute.editing.diff.effect import effect_of, largest_part, pair_effect
from constitute.stages.labels.rules import settle
from constitute.types import Comparison, PrincipleVote


def vote(name: str, p: float, weight: float = 1.0) -> PrincipleVote:
    return PrincipleVote(principle_id=name, weight=weight, p_ab=p, p_ba=p, mass_ab=0.9, mass_ba=0.9)


def row(name: str, source: str = "") -> Comparison:
    asked = prompt(name).model_copy(update={"source": source})
    return Comparison(id=name, prompt=asked, a="one", b="two")


def pairs_of(*changes: tuple[float, float]):
    return [
        pair_effect(row(f"p{n}"), (vote("k", p),), (vote("k", q),), {}) for n, (p, q) in enumerate(changes)
    ]


def test_flips_and_movement_by_hand() -> None:
    # Changes -0.5, +0.2, 0, +0.1: one crosses 0.5, one starts on it and so leaves no side.
    effect = effect_of(pairs_of((0.8, 0.3), (0.5, 0.7), (0.4, 0.4), (0.6, 0.7)), {"k": ("t",)})
    assert (effect.pairs, effect.all.flipped, effect.all.flips.n) == (4, 1, 4)
    assert effect.all.moved.value == pytest.approx((0.5 + 0.2 + 0 + 0.1) / 4)
    assert effect.shift.value == pytest.approx((-0.5 + 0.2 + 0 + 0.1) / 4)
    z = NormalDist().inv_cdf(0.975)
    low = (0.25 + z * z / 8 - z * math.sqrt(0.25 * 0.75 / 4 + z * z / 64)) / (1 + z * z / 4)
    assert effect.all.flips.low == pytest.approx(low)
    assert [pair.comparison.id for pair in effect.movers] == ["p0", "p1", "p3"]
    assert [(g.name, g.flipped, g.flips.n) for g in effect.by_principle] == [("k", 1, 4)]
    assert [(g.name, g.flipped, g.flips.n) for g in effect.by_tag] == [("t", 1, 4)]


def test_the_interval_is_near_that_of_every_resample() -> None:
    moved = (0.1, 0.4, 0.0, 0.3)
    effect = effect_of(pairs_of(*((0.5, 0.5 + m) for m in moved)), {})
    every = sorted(sum(draw) / 4 for draw in itertools.product(moved, repeat=4))
    exact = every[round(0.025 * 255)], every[round(0.975 * 255)]
    assert effect.all.moved.low == pytest.approx(exact[0], abs=0.03)
    assert effect.all.moved.high == pytest.approx(exact[1], abs=0.03)
    assert effect.all.moved.low < 0.2 < effect.all.moved.high


def test_parts_add_up_to_the_change_and_turn_round_with_it() -> None:
    rng = random.Random(1)
    for _ in range(20):
        sides = [
            tuple(vote(name, rng.random(), rng.choice((0.5, 1, 3))) for name in rng.sample("abcde", 3))
            for _ in range(2)
        ]
        there, back = (pair_effect(row("p"), first, second, {}) for first, second in (sides, sides[::-1]))
        assert sum(part.change for part in there.parts) == pytest.approx(there.change, abs=1e-12)
        assert there.change == -back.change
        assert [p.change for p in there.parts] == pytest.approx([-p.change for p in back.parts])
        effects = [effect_of([pair], dict.fromkeys("abcde", ())) for pair in (there, back)]
        assert effects[0].all == effects[1].all
        assert effects[0].shift.value == pytest.approx(-(effects[1].shift.value or 0))


def test_the_part_of_a_new_weight_by_hand() -> None:
    # Before (0.9 + 0.2) / 2 = 0.55, after (3 x 0.9 + 0.2) / 4 = 0.725.
    pair = pair_effect(row("p"), (vote("a", 0.9), vote("b", 0.2)), (vote("a", 0.9, 3.0), vote("b", 0.2)), {})
    assert (pair.before, pair.after) == (pytest.approx(0.55), pytest.approx(0.725))
    # a: 3/4 x 0.4 - 1/2 x 0.4 = 0.1; b: 1/4 x -0.3 - 1/2 x -0.3 = 0.075.
    assert {p.principle_id: p.change for p in pair.parts} == {
        "a": pytest.approx(0.1),
        "b": pytest.approx(0.075),
    }
    part = largest_part(pair)
    assert part is not None and part.principle_id == "a"


def test_the_same_votes_have_no_effect_under_another_id() -> None:
    pair = pair_effect(
        row("p"), (vote("old", 0.7), vote("x", 0.1)), (vote("x", 0.1), vote("new", 0.7)), {"old": "new"}
    )
    assert pair.change == 0.0 and all(part.change == 0.0 for part in pair.parts)
    assert largest_part(pair) is None
    effect = effect_of([pair], {"new": ("t",)})
    assert effect.movers == () and (effect.all.moved.value, effect.all.moved.high) == (0.0, None)


def test_pairs_without_a_label_are_counted_by_side_and_reason() -> None:
    pairs = [
        pair_effect(row("p0"), (vote("k", 0.8),), "no mass", {}),
        pair_effect(row("p1"), "no mass", (vote("k", 0.8),), {}),
        pair_effect(row("p2"), "no mass", "no mass", {}),
        pair_effect(row("p3"), (vote("k", 0.8),), (vote("k", 0.2),), {}),
    ]
    effect = effect_of(pairs, {})
    assert (effect.pairs, effect.only_before, effect.only_after, effect.neither) == (4, 1, 1, 1)
    assert effect.reasons == (("A", "no mass", 2), ("B", "no mass", 2))
    assert (effect.all.flipped, effect.all.flips.n) == (1, 1)
    nothing = effect_of(pairs[:1], {})
    assert nothing.all.moved.value is None and nothing.all.flips.n == 0


def test_tags_and_sources_hold_only_their_pairs() -> None:
    pairs = [
        pair_effect(row("p0", "x"), (vote("a", 0.8),), (vote("a", 0.1),), {}),
        pair_effect(row("p1", "y"), (vote("b", 0.8),), (vote("b", 0.9),), {}),
        pair_effect(row("p2", "y"), (vote("c", 0.8),), (vote("c", 0.8),), {}),
    ]
    effect = effect_of(pairs, {"a": ("rude",), "b": ("rude", "long")})
    assert [(g.name, g.flips.n, g.flipped) for g in effect.by_tag] == [("long", 1, 0), ("rude", 2, 1)]
    assert [(g.name, g.flips.n, g.flipped) for g in effect.by_source] == [("x", 1, 1), ("y", 2, 0)]
    assert [(g.name, g.flips.n) for g in effect.by_principle] == [("a", 1), ("b", 1)]


def test_the_labels_are_the_mean_unless_a_rule_is_given() -> None:
    votes = (vote("a", 1.0, 2.0), vote("b", 0.25, 1.0))
    assert pair_effect(row("p"), votes, votes, {}).before == pytest.approx(0.75)


def test_a_principle_that_rises_to_another_level_moves_the_label_by_hand() -> None:
    # Both on one level: (0.9 + 0.2) / 2 = 0.55 is silent, and so is all. Then a stands above b: 0.9.
    cfg, votes = LabelConfig(rule="priority"), (vote("a", 0.9), vote("b", 0.2))
    one = (("user", frozenset("ab")),)
    two = (("root", frozenset("a")), ("user", frozenset("b")))
    before, after = (partial(settle, cfg=cfg, levels=levels) for levels in (one, two))
    pair = pair_effect(row("p"), votes, votes, {}, (before, after))
    assert (pair.before, pair.after) == (pytest.approx(0.55), pytest.approx(0.9))
    # a: 0.4 - 0.4 / 2; b: 0 - (-0.3 / 2), as it is no longer heard.
    assert {p.principle_id: p.change for p in pair.parts} == pytest.approx({"a": 0.2, "b": 0.15})
    renamed = (vote("new", 0.9), vote("b", 0.2))
    level = (("root", frozenset({"new"})), ("user", frozenset("b")))
    after = partial(settle, cfg=cfg, levels=level)
    again = pair_effect(row("p"), votes, renamed, {"a": "new"}, (before, after))
    assert {p.principle_id: p.change for p in again.parts} == pytest.approx({"new": 0.2, "b": 0.15})


def contest(name: str, p: float | None, a: str = "x y", b: str = "z") -> Contest:
    judgements = (
        {}
        if p is None
        else {j: Judgement(p_b=p, votes=1, flips=int(p > 0.8), p_first=0.6) for j in ("A", "B")}
    )
    return Contest(id=name, prompt=prompt(name), draft="x y", a=a, b=b, judgements=judgements)


def test_win_rates_by_hand() -> None:
    rows = [
        contest("p0", 0.9),
        contest("p1", 0.2),
        contest("p2", 0.5, "s", "s"),
        contest("p3", None),
        Contest(id="p4", prompt=prompt("p4"), problems=(("draft", "failed", "empty"),)),
    ]
    figures = contests_of(rows)
    first, _, neutral = figures.standings
    assert first.win.n == 3 and first.win.value == pytest.approx((0.9 + 0.2 + 0.5) / 3)
    assert (first.for_b, first.for_a, first.ties) == (1, 1, 1)
    assert (first.flips.n, first.flips.value) == (3, pytest.approx(1 / 3))
    assert first.p_first == pytest.approx(0.6)
    assert neutral.win.n == 0 and neutral.win.value is None
    assert (figures.prompts, figures.compared, figures.same, figures.differ.value) == (5, 4, 1, 0.75)
    assert figures.words == (2.0, 7 / 4, 1.0)
    assert figures.changed[0].value == 0.25 and figures.changed[1].value == 1.0
    assert figures.problems == (("draft", "failed", "empty", 1),)
    assert (figures.for_b, figures.for_a) == (("p0",), ("p1",))


def test_a_judgement_counts_order_flips_and_what_stands_first() -> None:
    votes = [
        PrincipleVote(principle_id="k", weight=1, p_ab=0.9, p_ba=0.3, mass_ab=1, mass_ba=1),
        PrincipleVote(principle_id="l", weight=1, p_ab=0.8, p_ba=0.8, mass_ab=1, mass_ba=1),
    ]
    judgement = judgement_of(votes, 0.7)
    assert (judgement.votes, judgement.flips) == (2, 1) and judgement.p_b == pytest.approx(0.3)
    # P(first): (0.9 + 0.7) / 2 and (0.8 + 0.2) / 2.
    assert judgement.p_first == pytest.approx((0.8 + 0.5) / 2)
