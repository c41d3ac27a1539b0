"""Rates over a run, and what becomes of rewards before they are learned from: every number by hand."""

import math
import random

import pytest
from pydantic import ValidationError
from tolerance import FORMULA

from constitute.config.ppo import PPOConfig
from constitute.train.ppo.schedule import actor_rate, critic_rate
from constitute.train.rewards.scores import Moments, final_scores, length_cost


def test_rates_rise_then_fall_and_the_critic_goes_first():
    config = PPOConfig(iterations=10, warmup=0.2, value_warmup=3)
    # A rise over 2 iterations, times 1 - done / 10; the policy waits for 3.
    assert [critic_rate(done, config) for done in range(4)] == pytest.approx([0.5, 0.9, 0.8, 0.7])
    assert [actor_rate(done, config) for done in range(6)] == pytest.approx([0, 0, 0, 0.35, 0.6, 0.5])
    level = PPOConfig(iterations=10, warmup=0.35, schedule="constant")
    # 0.35 of 10 is 3.5: the fourth iteration is the first at the full rate.
    assert [actor_rate(done, level) for done in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    plain = PPOConfig(iterations=4)
    assert [actor_rate(done, plain) for done in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [critic_rate(done, plain) for done in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_moments_of_batches_are_those_of_all_values():
    moments = Moments().with_values([1.0, 3.0]).with_values([8.0])
    # Mean 4, squared deviations 9 + 1 + 16.
    assert (moments.n, moments.mean, moments.squares) == (3, 4.0, 26.0)
    assert moments.deviation == pytest.approx(math.sqrt(26 / 3))
    assert moments.with_values([]) == moments and Moments().deviation == 0.0
    rng = random.Random(0)
    # Far from zero, where sums of squares would lose the deviation.
    values = [1e6 + rng.gauss(0, 1) for _ in range(300)]
    joined = Moments()
    for start in range(0, 300, 7):
        joined = joined.with_values(values[start : start + 7])
    mean = math.fsum(values) / 300
    assert joined.mean == pytest.approx(mean, rel=1e-14)
    assert joined.squares == pytest.approx(math.fsum((value - mean) ** 2 for value in values), rel=1e-7)


def test_running_scores_are_in_units_of_all_rewards_so_far():
    config = PPOConfig(score_norm="running", missing_eos_penalty=None)
    first = Moments().with_values([1.0, 3.0])
    assert final_scores([1.0, 3.0], [True] * 2, config, moments=first) == pytest.approx(
        [-1.0, 1.0], **FORMULA
    )
    later = first.with_values([8.0])
    assert final_scores([8.0], [True], config, moments=later) == pytest.approx(
        [4 / math.sqrt(26 / 3)], **FORMULA
    )
    alike = Moments().with_values([2.0, 2.0])
    assert final_scores([2.0, 2.0], [True] * 2, config, moments=alike) == [0.0, 0.0]


def test_the_soft_punishment_of_length_is_a_case_of_the_penalty():
    # arXiv 2503.14476, equation 13, with a limit of 20 and a cache of 4 tokens.
    config = PPOConfig(max_new_tokens=20, length_penalty=1 / 4, length_free=16, missing_eos_penalty=None)
    costs = {10: 0.0, 16: 0.0, 17: 0.25, 18: 0.5, 20: 1.0}
    assert {length: length_cost(length, config) for length in costs} == costs
    assert final_scores([2.0, 2.0], [True] * 2, config, lengths=[16, 18]) == [2.0, 1.5]
    # It comes after the cut, in the units of what is learned from.
    cut = config.model_copy(update={"score_clip": 1.0})
    assert final_scores([5.0, 5.0], [True] * 2, cut, lengths=[16, 20]) == [1.0, 0.0]
    assert final_scores([2.0], [True], config) == [2.0]


def test_to_be_cut_off_is_never_better_than_the_worst_of_the_batch():
    config = PPOConfig()
    assert final_scores([2.0, 3.0], [True, False], config) == [2.0, -1.0]
    # Below -1 the penalty alone would make the cut-off response the best of the three.
    assert final_scores([-5.0, -3.0, -4.0], [True, True, False], config) == [-5.0, -3.0, -5.0]
    assert final_scores([-2.0, -9.0], [True, False], config) == [-2.0, -9.0]
    assert final_scores([0.5, 0.5], [False, False], config) == [-1.0, -1.0]
    assert final_scores([], [], config) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"value_warmup": 3, "iterations": 3}, "leaves none of 3 iterations"),
        ({"length_penalty": 0.1, "length_free": 256}, "lower length_free"),
        ({"length_free": 8}, "does nothing without length_penalty"),
        ({"stop_on": "gold"}, "set held_out to a share"),
        ({"reference_refresh": 5, "kl_coef": 0.0}, "set kl_coef above 0"),
        ({"reference_refresh": 5, "lora_rank": 4}, "set lora_rank=0"),
        ({"mix": [{"file": "a", "share": 0.5}, {"file": "b", "share": 0.5}]}, "leave nothing"),
        ({"held_out": 1.0}, "less than 1"),
    ],
)
def test_settings_that_ask_in_vain_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        PPOConfig(**settings)
