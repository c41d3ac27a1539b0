"""Quantiles of a pool by hand."""

import pytest

from constitute.train.imitation.control import reward_tokens
from constitute.train.imitation.pool import quantile_of


def test_each_quantile_has_an_equal_share():
    ordered = [float(score) for score in range(1, 11)]
    assert [quantile_of(score, ordered, 5) for score in ordered] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [quantile_of(score, [1.0, 2.0, 3.0], 2) for score in (1.0, 2.0, 3.0)] == [1, 1, 2]


@pytest.mark.parametrize(("zeros", "low"), [(5, 2), (9, 3), (1, 1)])
def test_equal_rewards_share_a_token_and_the_greatest_have_the_best(zeros, low):
    ordered = [0.0] * zeros + [1.0] * (10 - zeros)
    assert quantile_of(0.0, ordered, 5) == low and quantile_of(1.0, ordered, 5) == 5
    assert quantile_of(7.0, [7.0] * 4, 5) == 5


def test_tokens_from_the_worst_to_the_best():
    assert reward_tokens(3) == ["<|reward_1|>", "<|reward_2|>", "<|reward_3|>"]
