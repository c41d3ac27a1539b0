"""Tests of differences against scipy, statsmodels, values by hand and simulation."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats as scipy_stats

from constitute.significance import (
    cluster_sums,
    clustered_mean_of,
    equivalence,
    items_needed,
    minimum_detectable,
    sign_flip_p,
)
from constitute.stats import mcnemar_exact


def test_sums_of_clusters():
    assert cluster_sums([1, 2, 3, -1], "abab") == [(4.0, 2), (1.0, 2)]
    with pytest.raises(ValueError, match="do not pair up"):
        cluster_sums([1.0], "ab")


def test_without_clusters_the_interval_is_close_to_the_t_interval():
    rng = random.Random(5)
    values = [rng.gauss(0.2, 1) for _ in range(400)]
    found = clustered_mean_of(values, range(400), resamples=4000)
    low, high = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.value == pytest.approx(sum(values) / 400)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.012), pytest.approx(high, abs=0.012))


def test_copies_of_items_in_a_cluster_add_nothing():
    rng = random.Random(6)
    values = [rng.gauss(0, 1) for _ in range(60)]
    alone = clustered_mean_of(values, range(60))
    copied = clustered_mean_of(
        [v for v in values for _ in range(5)], [at for at in range(60) for _ in range(5)]
    )
    assert (copied.low, copied.high) == (pytest.approx(alone.low), pytest.approx(alone.high))
    assert (alone.n, copied.n) == (60, 300)


def test_one_cluster_says_nothing_of_others():
    found = clustered_mean_of([1.0, 0.0], "aa")
    assert (found.value, found.low, found.high) == (0.5, None, None)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_clustered_intervals_cover_95_percent(rho: float):
    """600 sets of 80 clusters of 1 to 5 items whose values share a part; within three standard errors."""
    rng = random.Random(f"coverage {rho}")
    covered, sets = 0, 600
    for _ in range(sets):
        values, clusters = [], []
        for cluster in range(80):
            shared = rng.gauss(0, math.sqrt(rho))
            for _ in range(rng.randint(1, 5)):
                values.append(0.3 + shared + rng.gauss(0, math.sqrt(1 - rho)))
                clusters.append(cluster)
        found = clustered_mean_of(values, clusters, resamples=200)
        covered += found.low <= 0.3 <= found.high
    assert abs(covered / sets - 0.95) < 0.027


def test_sign_flips_are_mcnemars_test_where_items_stand_alone():
    for only_first, only_second in ((3, 9), (0, 5), (4, 4), (1, 7)):
        values = [-1.0] * only_first + [1.0] * only_second + [0.0] * 20
        if only_first + only_second <= 14:
            assert sign_flip_p(values, range(len(values))) == pytest.approx(
                mcnemar_exact(only_first, only_second)
            )


def test_sign_flips_equal_scipys_permutation_test():
    rng = random.Random(7)
    values = [rng.gauss(0.4, 1) for _ in range(10)]
    wanted = scipy_stats.permutation_test(
        (values, [0.0] * 10),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=math.inf,
    ).pvalue
    assert sign_flip_p(values, range(10)) == pytest.approx(wanted)
    many = [rng.gauss(0.25, 1) for _ in range(60)]
    assert sign_flip_p(many, range(60)) == pytest.approx(scipy_stats.ttest_1samp(many, 0).pvalue, abs=0.02)


def test_five_copies_of_one_difference_are_one_difference():
    assert sign_flip_p([1.0] * 5, "aaaaa") == 1.0
    assert sign_flip_p([1.0] * 5, "abcde") == pytest.approx(2 / 32)
    assert sign_flip_p([0.0, 0.0], "ab") == 1.0


def test_equivalence_equals_statsmodels():
    from statsmodels.stats.weightstats import DescrStatsW

    rng = random.Random(8)
    for spread in (0.2, 1.0):
        values = [rng.gauss(0.02, spread) for _ in range(90)]
        p, *_ = DescrStatsW(values).ttost_mean(-0.1, 0.1)
        found = equivalence(values, range(90), 0.1)
        assert found.p == pytest.approx(p)
        assert found.holds == (p < 0.05) == (found.low > -0.1 and found.high < 0.1)


def test_equivalence_by_clusters_is_wider_and_needs_two():
    values = [0.1, 0.1, -0.1, -0.1] * 20
    by_item = equivalence(values, range(80), 0.05)
    by_cluster = equivalence(values, [at // 2 for at in range(80)], 0.05)
    assert by_cluster.high - by_cluster.low > by_item.high - by_item.low
    assert equivalence([0.0, 0.0], "aa", 0.1) is None
    # 20 items without any difference do not prove that fewer than 5 % would differ; 2,000 do.
    assert not equivalence([0.0] * 20, range(20), 0.05).holds
    assert equivalence([0.0] * 2000, range(2000), 0.05).holds


def test_the_change_that_can_be_seen_is_seen_as_often_as_promised():
    change = minimum_detectable(500, 0.3)
    # By hand: (1.95996 sqrt(0.3) + 0.84162 sqrt(0.3 - d^2))^2 = 500 d^2 at d = 0.06846.
    assert change == pytest.approx(0.06846, abs=1e-5)
    assert items_needed(change, 0.3) == pytest.approx(500)
    rng, seen, sets = random.Random(9), 0, 2000
    up, down = (0.3 + change) / 2, (0.3 - change) / 2
    for _ in range(sets):
        draws = [rng.random() for _ in range(500)]
        gained, lost = sum(x < up for x in draws), sum(up <= x < up + down for x in draws)
        seen += mcnemar_exact(lost, gained) < 0.05
    # The exact test is conservative: it sees a little less than the 80 % of the formula.
    assert 0.73 < seen / sets < 0.83


def test_few_items_can_show_no_change_at_all():
    assert minimum_detectable(5, 0.3) is None
    assert items_needed(0.0, 0.3) == math.inf
    with pytest.raises(ValueError, match="cannot come of"):
        items_needed(0.5, 0.3)
