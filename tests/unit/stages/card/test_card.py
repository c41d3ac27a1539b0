"""The figures of the label card, each worked out by hand."""

from __future__ import annotations

import math
import random
from statistics import median

import pytest
from scripted import prompt

from constitute.stages.card import entropy, label_card
from constitute.stages.card.people import KEPT, People
from constitute.stages.card.texts import OPENINGS, Openings
from constitute.stats import Estimate
from constitute.types import Comparison, LabelledPair, PreferenceLabel, PrincipleVote


def pair(
    p_a: float,
    a: str = "aa",
    b: str = "b",
    *,
    human: float | None = None,
    **votes: float,
) -> LabelledPair:
    """A pair with P(A) and the votes of principles by name, without orders."""
    cast = tuple(
        PrincipleVote(principle_id=name, weight=1, p_ab=p, p_ba=None, mass_ab=None, mass_ba=None)
        for name, p in (votes or {"k": p_a}).items()
    )
    comparison = Comparison(id="p", prompt=prompt("p"), a=a, b=b, human=human)
    return LabelledPair(id="p", comparison=comparison, label=PreferenceLabel(p_a=p_a, votes=cast))


def figures(found: Estimate) -> tuple[float | None, int]:
    return found.value, found.n


def test_entropy_by_hand():
    assert [entropy(p) for p in (0.5, 0.0, 1.0)] == [1.0, 0.0, 0.0]
    # -1/4 log2 1/4 - 3/4 log2 3/4 = 1/2 + 3/4 (2 - log2 3)
    assert entropy(0.25) == entropy(0.75) == pytest.approx(0.5 + 0.75 * (2 - math.log2(3)))
    card = label_card([pair(0.5), pair(1.0), pair(0.25)], 0, 0)
    assert figures(card.entropy) == (pytest.approx((1 + 0 + 0.811278) / 3, abs=1e-6), 3)


def test_the_longer_answer_by_hand():
    """Ratios 2, 4 and 8: P(the longer) is 0.5, 0.6 and 0.9, so a line through (1, 2, 3) of slope 0.2.

    Residuals are 1/30, -2/30 and 1/30, so the slope's standard error is sqrt((6/900) / 1 / 2), and Student's
    t for one degree of freedom 12.706.
    """
    rows = [pair(0.5, "aa", "b"), pair(0.4, "b", "aaaa"), pair(0.9, "a" * 8, "b"), pair(0.1, "x", "y")]
    card = label_card(rows, 0, 0)
    assert figures(card.longer) == (1.0, 2)
    slope = card.lengths.slope
    assert figures(slope) == (pytest.approx(0.2), 3)
    half = 12.7062 * math.sqrt(6 / 900 / 2)
    assert (slope.low, slope.high) == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    assert card.lengths.slope_human.n == 0


def test_a_taste_for_length_is_found_with_its_interval():
    """P(the longer) = 0.5 + 0.1 log2 ratio + noise: 95 % intervals hold 0.1 in about 95 of 100 cases."""
    rng, held = random.Random(1), 0
    for _ in range(100):
        rows = []
        for _ in range(60):
            more = rng.randint(1, 16)
            p = 0.5 + 0.1 * math.log2(more) + rng.uniform(-0.1, 0.1)
            long, short = "a" * 4 * more, "b" * 4
            rows.append(pair(p, long, short) if rng.random() < 0.5 else pair(1 - p, short, long))
        slope = label_card(rows, 0, 0).lengths.slope
        held += (slope.low or 0) <= 0.1 <= (slope.high or 0)
    assert 89 <= held <= 100


def test_calibration_by_hand():
    """Confidence 0.8 throughout; people side with it in 3 of 4 pairs: the error is 0.05.

    Brier: three times 0.2^2 and once 0.8^2, over 4.
    """
    rows = [pair(0.8, human=1.0), pair(0.2, human=0.0), pair(0.8, human=1.0), pair(0.8, human=0.0), pair(0.7)]
    found = label_card(rows, 0, 0).calibration
    assert found is not None
    assert figures(found.brier) == (pytest.approx((3 * 0.04 + 0.64) / 4), 4)
    assert figures(found.ece) == (pytest.approx(0.05), 4)
    (only,) = found.bins
    assert (only.confidence, figures(only.right)) == (pytest.approx(0.8), (0.75, 4))
    # Wilson of 3/4.
    assert (only.right.low, only.right.high) == (
        pytest.approx(0.3006, abs=1e-4),
        pytest.approx(0.9544, abs=1e-4),
    )
    assert label_card([pair(0.8)], 0, 0).calibration is None


def test_of_many_judged_pairs_a_sample_says_how_well_they_are_calibrated():
    """People side with a judge of 0.9 in 70 % of the pairs: the error is 0.2, of the KEPT pairs at random."""
    people, rng = People(), random.Random(0)
    for _ in range(3 * KEPT):
        people.add(0.9, float(rng.random() < 0.7))
    found = people.calibration()
    assert found is not None and len(people.kept) == KEPT
    assert found.ece.n == KEPT and found.brier.n == 3 * KEPT
    assert found.ece.value == pytest.approx(0.2, abs=0.05)
    assert people.agreement().accuracy.n == 3 * KEPT


def test_agreement_between_principles_by_hand():
    """On three pairs: kind and true agree once of three, kind and calm always, calm and true once of three.

    By pair 1, 1/3 and 1/3 of the twos agree; the mean 5/9 makes a kappa of 1/9. A vote of 0.5 is on no side.
    """
    rows = [
        pair(0.9, kind=0.9, true=0.8, calm=0.7),
        pair(0.6, kind=0.9, true=0.2, calm=0.7),
        pair(0.4, kind=0.1, true=0.7, calm=0.4),
        pair(0.6, kind=0.9, true=0.5, calm=0.5),
    ]
    found = label_card(rows, 0, 0).principles
    assert found.voting == 3
    assert figures(found.share) == (pytest.approx(5 / 9), 3)
    assert figures(found.kappa) == (pytest.approx(1 / 9), 3)
    least = found.least
    assert least is not None and (least.first, least.second) == ("calm", "true")
    assert figures(least.share) == (pytest.approx(1 / 3), 3)
    assert figures(least.kappa) == (pytest.approx(-1 / 3), 3)


def test_one_principle_agrees_with_nobody():
    found = label_card([pair(0.9), pair(0.2)], 0, 0).principles
    assert (found.voting, found.share.n, found.least) == (1, 0, None)


def test_boilerplate_and_words_by_hand():
    """Openings of five words, whatever their case and punctuation; at 0.5 nothing is preferred.

    The phrase of a refusal has its comma.
    """
    rows = [
        pair(0.9, "I'm sorry, but I can't do that.", "Sure, one two"),
        pair(0.1, "one", "i'm sorry but I can't, no"),
        pair(0.9, "Sure.", "I'm sorry, but I can't do it"),
        pair(0.5, "I'm sorry, but I can't", "x"),
    ]
    card = label_card(rows, 0, 0)
    found = card.boilerplate
    assert (found.opening, figures(found.opens_so)) == ("i'm sorry but i can't", (2 / 3, 3))
    assert figures(found.refusals) == (pytest.approx(1 / 3), 3)
    assert figures(found.refusals_rejected) == (pytest.approx(1 / 3), 3)
    # 7, 6 and 1 words against 3, 1 and 7.
    assert figures(card.lengths.chosen_words) == (pytest.approx(14 / 3), 3)
    assert figures(card.lengths.rejected_words) == (pytest.approx(11 / 3), 3)


def test_openings_are_counted_in_constant_memory():
    """A fifth of 50,000 texts opens alike, all others differently: short by under 1 in OPENINGS of them."""
    openings, n = Openings(), 50_000
    for at in range(n):
        openings.add(("so",) if at % 5 == 0 else (str(at),))
    assert len(openings.counts) <= OPENINGS
    opening, share = openings.commonest()
    assert opening == "so" and share.n == n
    assert 0.2 - 1 / OPENINGS <= (share.value or 0) <= 0.2


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_the_median_is_that_of_all_values(n):
    rng = random.Random(n)
    values = [rng.random() for _ in range(n)]
    card = label_card([pair(value) for value in values], 0, 0)
    # Values of one ten-thousandth count as their mean.
    assert card.p_median == pytest.approx(median(values), abs=1e-4)


def test_means_and_their_intervals_by_hand():
    """0.2, 0.4 and 0.9: mean 0.5, variance 0.13, t of two degrees of freedom 4.3027; cut at 0 and 1."""
    card = label_card([pair(0.2), pair(0.4), pair(0.9)], 0, 0)
    assert (card.p_a.value, card.p_a.low, card.p_a.high) == (pytest.approx(0.5), 0.0, 1.0)
    near = label_card([pair(0.4), pair(0.5), pair(0.6)], 0, 0).p_a
    half = 4.30265 * math.sqrt(0.01 / 3)
    assert (near.low, near.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
