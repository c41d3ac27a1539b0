"""Welfare functions by hand, their limits and order, and what they refuse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerance import FORMULA

from constitute.config.ppo import PPOConfig
from constitute.errors import DataError, UsageError
from constitute.train.rewards.parts import RewardPart
from constitute.train.rewards.welfare import Welfare, check_welfare, total_rewards
from constitute.types import Message, Prompt

PARTS = (RewardPart("harmless", "x", 1.0), RewardPart("concise", "y", 3.0), RewardPart("gold", "z", 0.0))


def prompt(name="p"):
    return Prompt(id=name, messages=(Message(role="user", content="Why?"),))


def total(values, welfare, parts=PARTS[:2]):
    """The reward of one response with these values."""
    columns = {part.name: [value] for part, value in zip(parts, values, strict=True)}
    return total_rewards(parts, columns, welfare, [prompt()])[0]


@pytest.mark.parametrize(
    ("name", "aversion", "expected"),
    [
        ("sum", 1.0, 2.25),  # 0.25 + 3 * 2 / 3
        ("mean", 1.0, 0.5625),  # 2.25 / 4
        ("min", 1.0, 0.25),
        ("nash", 1.0, 0.5217),  # (1/4 * 8/27)^(1/4)
        ("isoelastic", 0.0, 0.5625),
        ("isoelastic", 1.0, 0.5217),
        ("isoelastic", 2.0, 8 / 17),  # 4 / (1/0.25 + 3 * 3/2) = 4 / 8.5
        ("isoelastic", 0.5, 0.5437),  # ((0.5 + 3 * 0.8165) / 4)^2
    ],
)
def test_welfare_by_hand(name, aversion, expected):
    assert total((0.25, 2 / 3), Welfare(name, aversion)) == pytest.approx(expected, rel=2e-4)


def test_equal_weights_by_hand():
    equal = (RewardPart("a", "x"), RewardPart("b", "y"))
    assert total((1.0, 4.0), Welfare("nash"), equal) == pytest.approx(2.0, **FORMULA)
    assert total((1.0, 4.0), Welfare("isoelastic", 2.0), equal) == pytest.approx(1.6, **FORMULA)
    # sigmoid(0) = 1/2 and sigmoid(ln 3) = 3/4.
    assert total((0.0, math.log(3.0)), Welfare("mean", utility="sigmoid"), equal) == pytest.approx(0.625)
    assert total((0.0, math.log(3.0)), Welfare("sum", utility="sigmoid"), equal) == pytest.approx(1.25)
    assert total((-2.0, 3.0), Welfare("min"), equal) == -2.0


utilities = st.lists(st.floats(0.01, 100.0), min_size=2, max_size=2)


@given(utilities, st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_more_aversion_never_gives_more_and_equals_are_worth_themselves(values, low, high):
    low, high = sorted((low, high))
    averse, less = (total(values, Welfare("isoelastic", aversion)) for aversion in (high, low))
    assert averse <= less * (1 + 1e-6)
    assert min(values) * (1 - 1e-6) <= averse <= max(values) * (1 + 1e-6)
    assert total([values[0]] * 2, Welfare("isoelastic", high)) == pytest.approx(values[0])


def test_great_aversion_is_the_least_without_leaving_the_range_of_floats():
    assert total((1e-6, 1.0), Welfare("isoelastic", 500.0)) == pytest.approx(1e-6, rel=5e-3)
    assert total((-900.0, 0.0), Welfare("min", utility="sigmoid")) == 0.0


def test_a_part_of_weight_0_is_measured_alone():
    columns = {"harmless": [1.0, 4.0], "concise": [1.0, 1.0], "gold": [-9.0, -9.0]}
    two = [prompt("p"), prompt("q")]
    assert total_rewards(PARTS, columns, Welfare("min"), two) == [1.0, 1.0]
    assert total_rewards(PARTS, columns, Welfare("nash"), two) == pytest.approx([1.0, 4.0**0.25])
    assert total_rewards(PARTS, columns, Welfare(), two) == [4.0, 7.0]


@pytest.mark.parametrize("name", ["nash", "isoelastic"])
def test_rewards_not_above_0_are_refused_where_the_function_needs_it(name):
    with pytest.raises(DataError, match=r"^concise of the response to prompt 'p' is -0.5, and welfare="):
        total((0.5, -0.5), Welfare(name))
    assert 0 < total((0.5, -0.5), Welfare(name, utility="sigmoid")) < 1


def test_negative_weights_are_for_the_sum_alone():
    parts = (RewardPart("a", "x"), RewardPart("b", "y", -1.0))
    check_welfare(Welfare("sum"), parts)
    with pytest.raises(UsageError, match=r"'b' has a negative weight.*train\.grpo\.welfare=sum"):
        check_welfare(Welfare("mean", section="grpo"), parts)


def test_settings_make_it_and_a_recipe_says_what_is_not_the_default():
    assert Welfare.of(PPOConfig()) == Welfare()
    assert Welfare.of(PPOConfig(), "grpo").identity == Welfare().identity == ""
    settings = PPOConfig(welfare="isoelastic", aversion=2.5, utility="sigmoid")
    assert Welfare.of(settings).identity == "isoelastic:2.5:sigmoid"
    assert Welfare("min").identity == "min:raw"
