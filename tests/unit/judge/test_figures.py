"""Figures of a judge, worked by hand, and the rule that advises one."""

from __future__ import annotations

import math
import random

import pytest
from scripted import prompt

from constitute.judge.figures import Advice, Copied, Ended, JudgeFigures, advise, figures_of
from constitute.stats import calibration_error, cohen_kappa, kappa_of
from constitute.types import Comparison, LabelledPair, PreferenceLabel, PrincipleVote


def row(
    p_ab: float, p_ba: float | None, human: float | None, name: str = "p", mass: float = 0.9
) -> LabelledPair:
    vote = PrincipleVote(principle_id="k", weight=1, p_ab=p_ab, p_ba=p_ba, mass_ab=mass, mass_ba=mass)
    pair = Comparison(id=name, prompt=prompt("p"), a="aa", b="b", human=human)
    return LabelledPair(id=name, comparison=pair, label=PreferenceLabel(p_a=vote.p_a, votes=(vote,)))


def ended(rows, method="choice", layout="shared", requests=10, **more) -> Ended:
    values = {"abstained": 0, "equal": 0, "failed": 0, "copies": (), "longer_first": (), "seconds": 1.0}
    return Ended(method=method, layout=layout, labelled=tuple(rows), requests=requests, **(values | more))


def measured(
    right: int, n: int, method: str = "choice", requests: int = 10, spread: bool = True
) -> JudgeFigures:
    """A judge that agrees with people on `right` of n pairs, half of them better first."""
    rows = []
    for i in range(n):
        p = 0.6 + 0.3 * i / n if spread else 0.7
        agrees, human = i < right, float(i % 2)
        side = p if (human == 1.0) == agrees else 1 - p
        rows.append(row(side, side, human, f"p{i}"))
    return figures_of(ended(rows, method, "shared", requests))


def test_agreement_and_calibration_by_hand():
    """P(A) 0.9, 0.8, 0.3, 0.6 against A, B, B, A: three agree; Brier (0.01 + 0.64 + 0.09 + 0.16) / 4.

    One bin of confidences 0.9, 0.8, 0.7, 0.6 (mean 0.75) with 3 of 4 right: the error is 0.
    """
    found = figures_of(ended([row(p, p, h) for p, h in ((0.9, 1), (0.8, 0), (0.3, 0), (0.6, 1))]))
    assert found.agreement is not None
    assert (found.agreement.accuracy.value, found.agreement.accuracy.n) == (0.75, 4)
    assert found.agreement.kappa.value == pytest.approx(0.5)
    assert found.brier.value == pytest.approx(0.225) and found.ece.value == pytest.approx(0.0, abs=1e-12)
    assert found.brier.low < 0.225 < found.brier.high and found.ece.high > 0.1
    assert (found.flips.value, found.mass.value) == (0.0, pytest.approx(0.9))


def test_calibration_error_by_hand():
    """Two bins: confidence 0.6 with 5 of 10 right, 0.9 with 10 of 10; (10 * 0.1 + 10 * 0.1) / 20."""
    points = [(0.6, float(i < 5)) for i in range(10)] + [(0.9, 1.0)] * 10
    assert calibration_error(points).value == pytest.approx(0.1)
    assert calibration_error([]).n == 0


def test_kappa_counts_each_pair_in_both_orders():
    """As Cohen's kappa of the ratings and their mirrors together, whichever side a file names first."""
    rng = random.Random(3)
    for always_first in (True, False):
        people = [1 if always_first else rng.randint(0, 1) for _ in range(50)]
        labels = [one if rng.random() < 0.8 else 1 - one for one in people]
        both = ([*people, *(1 - x for x in people)], [*labels, *(1 - x for x in labels)])
        agree = sum(a == b for a, b in zip(people, labels, strict=True))
        assert kappa_of(agree, 50, 0.5).value == pytest.approx(cohen_kappa(*both))
    assert kappa_of(0, 0, 0.5).value is None


def test_rows_without_a_label_are_counted():
    found = figures_of(ended([row(0.9, 0.8, 1.0)], abstained=3, equal=1, failed=1))
    assert (found.asked, found.no_label.value, found.no_label.n) == (5, 0.75, 4)


def test_copies_are_steady_up_to_a_tenth():
    copies = [Copied(kind="neutral", p_a=p, expected=0.5) for p in (0.5, 0.59, 0.65)]
    copies += [
        Copied(kind="swapped", p_a=0.2, expected=1.0 - 0.8),
        Copied(kind="swapped", p_a=0.2, expected=0.4),
    ]
    longer = ((True, 0.59), (False, 0.65), (True, 0.5))
    found = figures_of(ended([row(0.9, 0.8, None)], copies=tuple(copies), longer_first=longer))
    assert (found.neutral.value, found.neutral.n) == (pytest.approx(2 / 3), 3)
    assert (found.swapped.value, found.swapped.n) == (0.5, 2)
    assert (found.steady.value, found.steady.n) == (0.6, 5)
    assert (found.longer_neutral.value, found.longer_neutral.n) == (0.5, 2)


def test_the_greatest_lower_bound_of_those_that_pass_is_advised():
    """9 of 10 has a lower bound of 0.596, 80 of 100 one of 0.711."""
    found = advise([measured(9, 10, "few"), measured(80, 100, "many"), measured(60, 100, "worse")])
    assert found.method == "many" and found.sentence.startswith(
        "use many, shared: it agrees with people in 0.800"
    )


def test_equal_bounds_go_to_the_cheaper():
    judges = [measured(80, 100, "dear", requests=400), measured(80, 100, "cheap", requests=200)]
    assert advise(judges).method == advise(judges[::-1]).method == "cheap"


def flipping(n: int = 40) -> JudgeFigures:
    return figures_of(ended([row(0.9, 0.2, float(i % 2), f"p{i}") for i in range(n)], "order"))


def test_a_judge_under_the_verdict_is_never_advised():
    found = advise([flipping(), measured(70, 100)])
    assert found.method == "choice"
    alone = advise([flipping()])
    assert alone.method is None and "the two orders of the answers give opposite labels" in alone.sentence


def test_no_better_than_a_coin_is_said():
    """55 of 100 has a lower bound of 0.452."""
    found = advise([measured(55, 100)])
    assert found.method is None and "better than a coin" in found.sentence and "n = 100" in found.sentence


def test_without_people_the_steadiest_is_named_and_that_is_said():
    def without(name: str, steady: int) -> JudgeFigures:
        copies = tuple(
            Copied(kind="neutral", p_a=0.5 if i < steady else 0.9, expected=0.5) for i in range(20)
        )
        rows = [row(0.3 + 0.02 * i, 0.3 + 0.02 * i, None, f"p{i}") for i in range(20)]
        return figures_of(ended(rows, name, copies=copies))

    found = advise([without("shaky", 5), without("calm", 18)])
    assert found.method == "calm" and "no pair has a person's preference" in found.sentence


def test_nothing_measured_advises_nothing():
    assert advise([], ["score, shared: the engine cannot"]) == Advice(
        method=None,
        layout="",
        sentence="none of them tells good answers from bad: score, shared: the engine cannot",
    )
    assert not math.isnan(figures_of(ended([], failed=3)).seconds)
