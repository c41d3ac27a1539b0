"""Intervals, paired tests and agreement against values worked out by hand or published."""

import math
import random
from math import comb

import numpy as np
import pytest

from constitute.moments import Line, Moments, student_t
from constitute.stats import (
    Estimate,
    alpha_of,
    bootstrap_mean,
    calibration_error,
    cohen_kappa,
    confidence_bins,
    difference_of,
    holm,
    krippendorff_alpha,
    mcnemar_exact,
    mean,
    mean_of,
    quantile,
    share_of,
    stderr,
    weighted_of,
    wilson,
)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # n successes of n mirror none of n.
        (20, 20, 1 - 0.1611, 1.0),
    ],
)
def test_wilson_equals_published_intervals(k, n, low, high):
    assert wilson(k, n) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_wilson_edges():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 7)[0] == 0.0
    assert wilson(7, 7)[1] == 1.0
    for k in range(11):
        low, high = wilson(k, 10)
        assert 0.0 <= low <= k / 10 <= high <= 1.0
        mirrored = wilson(10 - k, 10)
        assert (low, high) == (pytest.approx(1 - mirrored[1]), pytest.approx(1 - mirrored[0]))
    with pytest.raises(ValueError, match="11 successes of 10"):
        wilson(11, 10)


def test_mean_and_stderr_by_hand():
    assert mean([1, 2, 3, 6]) == 3.0
    # Deviations -2, -1, 0, 3: sum of squares 14, variance 14/3, squared standard error 14/12.
    assert stderr([1, 2, 3, 6]) == pytest.approx((14 / 12) ** 0.5)
    assert stderr([5.0]) == 0.0
    with pytest.raises(ValueError, match="no values"):
        mean([])


def test_quantile_interpolates_like_type_7():
    assert quantile([10, 20, 30, 40], 0.0) == 10
    assert quantile([10, 20, 30, 40], 0.5) == 25
    assert quantile([10, 20, 30, 40], 0.9) == pytest.approx(37)
    assert quantile([10, 20, 30, 40], 1.0) == 40


def test_bootstrap_is_deterministic_and_exact_on_constants():
    values = [0.1, 0.4, 0.35, 0.9, 0.2]
    assert bootstrap_mean(values, random.Random(7), 500) == bootstrap_mean(values, random.Random(7), 500)
    assert bootstrap_mean(values, random.Random(7), 500) != bootstrap_mean(values, random.Random(8), 500)
    assert bootstrap_mean([0.25] * 9, random.Random(0), 200) == (0.25, 0.25)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    covered = 0
    for trial in range(300):
        rng = random.Random(trial)
        low, high = bootstrap_mean([rng.random() for _ in range(60)], rng, 300)
        covered += low <= 0.5 <= high
    # 95 % nominal; a percentile interval at n = 60 covers a little less. Three sigmas of 300 are 4 %.
    assert 0.90 <= covered / 300 <= 0.985


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 5, 2 / 32),
        (3, 3, 1.0),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (5, 15, 2 * sum(comb(20, i) for i in range(6)) / 2**20),
    ],
)
def test_mcnemar_is_the_exact_binomial(b, c, p):
    assert mcnemar_exact(b, c) == pytest.approx(p, rel=1e-14)
    assert mcnemar_exact(c, b) == mcnemar_exact(b, c)


def test_mcnemar_stays_finite_for_many_pairs():
    # By the normal approximation with continuity correction, (1200 - 1000 - 1) / sqrt(2200) = 4.243 sigmas.
    assert mcnemar_exact(1000, 1200) == pytest.approx(2.2e-5, rel=0.03)
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1 with a running maximum.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_kappa_by_hand():
    # 2 x 2 table 20, 5, 10, 15: observed 0.7, chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa([1, 2, 3], [1, 2, 3]) == 1.0
    assert cohen_kappa(["a", "b"], ["b", "a"]) == -1.0
    assert cohen_kappa(["a", "a"], ["a", "a"]) == 1.0
    with pytest.raises(ValueError, match="pair up"):
        cohen_kappa([1], [])


def test_difference_of_two_shares_equals_the_published_intervals():
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 873, table II, method 10.
    for (second, first), expected in {
        ((56, 70), (48, 80)): (0.2, 0.0524, 0.3339),
        ((9, 10), (3, 10)): (0.6, 0.1705, 0.8090),
    }.items():
        found = difference_of(share_of(*first), share_of(*second))
        assert (found.value, found.low, found.high) == pytest.approx(expected, abs=5e-5)
    assert difference_of(share_of(0, 0), share_of(1, 2)) == Estimate(value=None, low=None, high=None, n=0)


def test_a_weighted_mean_of_estimates_by_hand():
    """Weights 3 to 1: value 0.75 * 0.8 + 0.25 * 0.4; limits by the root of the squared weighted distances."""
    first = Estimate(value=0.8, low=0.7, high=0.86, n=50)
    second = Estimate(value=0.4, low=0.2, high=0.64, n=10)
    figure = weighted_of([first, second], [3, 1])
    assert figure.value == pytest.approx(0.7, abs=1e-12) and figure.n == 60
    assert figure.low == pytest.approx(0.7 - math.hypot(0.75 * 0.1, 0.25 * 0.2), abs=1e-12)
    assert figure.high == pytest.approx(0.7 + math.hypot(0.75 * 0.06, 0.25 * 0.24), abs=1e-12)
    alone = weighted_of([first], [7])
    assert (alone.value, alone.low, alone.high) == pytest.approx((0.8, 0.7, 0.86), abs=1e-12)
    unknown = Estimate(value=None, low=None, high=None, n=0)
    assert weighted_of([first, unknown], [1, 1]).value is weighted_of([], []).value is None
    bare = weighted_of([first, Estimate(value=1.0, low=None, high=None, n=4)], [1, 1])
    assert (bare.value, bare.low, bare.high, bare.n) == (pytest.approx(0.9), None, None, 54)


def test_the_interval_of_a_weighted_mean_holds_the_truth_in_95_of_100():
    """Three subsets of unlike size and share, one of them near 1, weighted as sections weight them."""
    rng, parts = random.Random(5), ((100, 0.97), (46, 0.6), (250, 0.8))
    weights = [100.0, 134.0, 37.0]
    truth = sum(w * p for w, (_, p) in zip(weights, parts, strict=True)) / sum(weights)
    held = 0
    for _ in range(2000):
        drawn = [share_of(sum(rng.random() < p for _ in range(n)), n) for n, p in parts]
        figure = weighted_of(drawn, weights)
        held += figure.low <= truth <= figure.high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_a_difference_on_the_same_cases_is_narrower_where_they_go_together():
    first, second = share_of(30, 40), share_of(10, 40)
    apart, paired = difference_of(first, second), difference_of(first, second, r=1 / 3)
    # One side of it by hand: Wilson's 0.5981 to 0.8581 and 0.1419 to 0.4019, at reaches of 0.1081 each.
    assert apart.low == pytest.approx(-0.5 - math.hypot(0.1081, 0.1081), abs=2e-4)
    assert paired.low == pytest.approx(-0.5 - 0.1081 * math.sqrt(2 - 2 / 3), abs=2e-4)
    # The reverse is the same interval with the other sign, and all that goes together leaves nothing.
    assert difference_of(second, first).high == pytest.approx(-apart.low)
    assert difference_of(first, first, r=1.0).high == pytest.approx(
        abs(first.high + first.low - 2 * first.value), abs=1e-12
    )


def test_equal_confidences_are_one_bin():
    """Ten right and thirty wrong at 0.9: cut by label, bins would be off by 0.9 and 0.1, and not by 0.65."""
    points = sorted([(0.9, 1.0)] * 10 + [(0.9, 0.0)] * 30)
    assert confidence_bins(points) == [points]
    assert calibration_error(points).value == pytest.approx(0.65)
    spread = [(0.5 + i / 100, 1.0) for i in range(40)]
    assert [len(part) for part in confidence_bins(spread)] == [10] * 4
    assert [len(part) for part in confidence_bins(sorted([(0.5, 0.0)] * 15 + spread[15:]))] == [15, 5, 10, 10]


@pytest.mark.parametrize(
    ("df", "t"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (5, 2.57058), (10, 2.22814), (30, 2.04227), (1000, 1.96234)],
)
def test_students_t_is_that_of_the_tables(df, t):
    assert student_t(df) == pytest.approx(t, rel=2e-3)


def test_moments_and_line_are_those_of_numpy():
    """Read one by one, with large offsets; the slope's standard error as in every textbook of regression."""
    rng = np.random.default_rng(0)
    x, y = 1e6 + rng.random(50), 1e6 + rng.normal(size=50)
    moments, line = Moments(), Line()
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        moments.add(a)
        line.add(a, b)
    found = moments.estimate()
    half = student_t(49) * x.std(ddof=1) / math.sqrt(50)
    assert (found.value, found.n) == (pytest.approx(x.mean(), rel=1e-12), 50)
    assert found.high - found.value == pytest.approx(half, rel=1e-6)
    centred = x - x.mean()
    slope = centred @ (y - y.mean()) / (centred @ centred)
    rest = y - y.mean() - slope * centred
    error = math.sqrt(rest @ rest / 48 / (centred @ centred))
    assert line.slope().value == pytest.approx(slope, rel=1e-6)
    assert line.slope().high - line.slope().value == pytest.approx(student_t(48) * error, rel=1e-6)


def test_too_few_values_bound_nothing():
    one, level = Moments(), Line()
    one.add(0.3)
    assert (one.estimate(high=1.0).low, one.estimate(high=1.0).high, one.estimate().high) == (0.0, 1.0, None)
    for y in (0.1, 0.5, 0.9):
        level.add(2.0, y)
    assert (level.slope().value, level.slope().n) == (None, 3)


# Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C: four observers, twelve units.


def _units():
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    return [[value for value in unit if value is not None] for unit in zip(*rows, strict=True)]


def test_alpha_equals_the_published_example():
    assert krippendorff_alpha(_units()) == pytest.approx(0.743, abs=5e-4)
    found = alpha_of(_units())
    # The last unit has one value, which pairs with nothing.
    assert found.n == 11
    assert found.low < 0.743 < found.high


def test_alpha_of_two_raters_by_hand():
    # Units ab, aa, bb, aa: of n = 8 values 5 are a; o_ab + o_ba = 2; expected 2 * 5 * 3 / 7.
    units = [("a", "b"), ("a", "a"), ("b", "b"), ("a", "a")]
    assert krippendorff_alpha(units) == pytest.approx(1 - 7 * 2 / 30)
    assert krippendorff_alpha([("a", "a"), ("a", "a")]) is None
    assert krippendorff_alpha([("a",), ()]) is None


def test_alpha_is_invariant_and_near_0_by_chance():
    rng = random.Random(1)
    units = [[rng.choice("ab") for _ in range(3)] for _ in range(2000)]
    assert abs(krippendorff_alpha(units)) < 0.03
    renamed = [[{"a": 7, "b": 9}[value] for value in reversed(unit)] for unit in reversed(units)]
    assert krippendorff_alpha(renamed) == pytest.approx(krippendorff_alpha(units))
    estimate = alpha_of(units, resamples=200)
    assert estimate.low < 0 < estimate.high


def test_full_agreement_of_few_units_keeps_a_wide_interval():
    found = alpha_of([("a", "a"), ("b", "b"), ("a", "a")])
    assert found.value == 1.0
    # Wilson's bound of 3 of 3 is 0.4385; chance is (4/6)^2 + (2/6)^2 = 5/9.
    assert found.low == pytest.approx((wilson(3, 3)[0] - 5 / 9) / (4 / 9))


def test_values_that_are_all_alike_get_no_interval_of_width_0():
    assert (mean_of([0.0, 0.0]).low, mean_of([0.0, 0.0]).high) == (None, None)
    found = mean_of([0.64])
    assert (found.value, found.low, found.high, found.n) == (0.64, None, None, 1)
    assert found.text() == "0.640 (no interval, n = 1)"
