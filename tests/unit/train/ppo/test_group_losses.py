"""The GRPO family by hand: baselines, clips, ratios of whole responses, means of the loss, resampling."""

import math
from dataclasses import replace

import pytest
import torch
from tolerance import FORMULA, decimals
from unit.train.ppo.test_algorithms import batch_of, learn

from constitute.config.ppo import PPOConfig
from constitute.train.common import losses
from constitute.train.common.models import ActorCritic
from constitute.train.ppo.algorithms import ALGORITHMS
from constitute.train.ppo.experience import experience, first_pass_measures
from constitute.train.ppo.sampling import flat_groups, with_values
from constitute.train.ppo.update import _piece_loss, loss_weights

GROUPED = {"samples_per_prompt": 2, "batch_size": 2}


def learned_of(name, scores, mask, *, ended=None, kl=0.0, kl_coef=0.0, **settings):
    config = PPOConfig(advantage=name, **settings)
    batch = batch_of(ALGORITHMS[name], scores, mask, config, kl=kl, kl_coef=kl_coef)
    if ended is not None:
        batch = replace(batch, rollouts=replace(batch.rollouts, ended=ended))
    return experience(batch), config


def loss_and_slope(learned, config, change, rows=(0, 1)):
    """The summed loss of `rows` over their tokens, and its slope in each new log-probability."""
    rows = list(rows)
    inside = learned.batch.mask_BT[rows].bool()
    old = learned.batch.logprobs_BT[rows][inside]
    new = (old + torch.tensor(change)).requires_grad_(True)
    weights = loss_weights(learned, rows, config)
    loss, _ = _piece_loss((new, new, torch.zeros(len(new))), learned, rows, config, weights)
    tokens = learned.batch.mask_BT[rows].sum()
    (loss / tokens).backward()
    return (loss / tokens).item(), new.grad.tolist()


def test_grpo_divides_by_the_deviation_of_the_prompt():
    # Scores 1, 2, 6: mean 3, deviation sqrt((4 + 1 + 9) / 2) = sqrt(7); 5, 5, 5 say nothing.
    mask = [[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]] * 2
    scores = [1.0, 2.0, 6.0, 5.0, 5.0, 5.0]
    learned, _ = learned_of("grpo", scores, mask, samples_per_prompt=3, batch_size=6)
    by_hand = [value / (math.sqrt(7) + 1e-4) for value in (-2, -1, 3)]
    assert learned.advantages_BT[:, 0].tolist() == pytest.approx([*by_hand, 0, 0, 0], **FORMULA)
    assert learned.advantages_BT[:2, 1].tolist() == pytest.approx([by_hand[0], 0.0], **FORMULA)
    plain, _ = learned_of("grpo", scores, mask, samples_per_prompt=3, batch_size=6, group_std=False)
    assert plain.advantages_BT[:, 0].tolist() == pytest.approx([-2, -1, 3, 0, 0, 0], **FORMULA)


def test_grpo_has_its_kl_in_the_loss_unless_told():
    mask = [[1.0], [1.0]]
    in_loss, _ = learned_of("grpo", [1.0, 3.0], mask, kl=0.4, kl_coef=0.5, group_std=False, **GROUPED)
    assert in_loss.batch.rewards_BT.flatten().tolist() == [1.0, 3.0]
    in_reward, _ = learned_of(
        "grpo", [1.0, 3.0], mask, kl=0.4, kl_coef=0.5, group_std=False, kl_in="reward", **GROUPED
    )
    assert in_reward.batch.rewards_BT.flatten().tolist() == pytest.approx([0.8, 2.8], **FORMULA)
    rloo, _ = learned_of("rloo", [1.0, 3.0], mask, kl=0.4, kl_coef=0.5, kl_in="loss", **GROUPED)
    assert rloo.batch.rewards_BT.flatten().tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("estimate", "value", "slope"),
    [
        ("k1", 0.4, 1.0),
        ("k2", 0.08, 0.4),
        ("k3", math.exp(-0.4) - 1 + 0.4, 1 - math.exp(-0.4)),
    ],
)
def test_estimates_of_the_kl_in_the_loss(estimate, value, slope):
    # Equal scores, so that nothing but the KL is left: 0.4 nats on each of two tokens, at 0.5.
    settings = {"kl": 0.4, "kl_coef": 0.5, "kl_estimate": estimate, **GROUPED}
    learned, config = learned_of("grpo", [1.0, 1.0], [[1.0], [1.0]], **settings)
    loss, grad = loss_and_slope(learned, config, [0.0, 0.0])
    assert loss == pytest.approx(0.5 * value, **FORMULA)
    assert grad == pytest.approx([0.25 * slope] * 2, **FORMULA)


def test_reinforce_whitens_what_is_still_to_come():
    # KL 0.2 a token at 0.5 costs 0.1 each: rewards (-0.1, 0.9) and (-0.1 + 3,): to come 0.8, 0.9, 2.9.
    mask = [[1.0, 1.0], [1.0, 0.0]]
    learned, _ = learned_of("reinforce++", [1.0, 3.0], mask, kl=0.2, kl_coef=0.5, batch_size=2)
    values = [0.8, 0.9, 2.9]
    mean = sum(values) / 3
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 3)
    found = learned.advantages_BT[learned.batch.mask_BT.bool()].tolist()
    assert found == pytest.approx([(value - mean) / deviation for value in values], **decimals(4))
    # With a baseline: 1 and 3 less their mean 2 are -1, -1, 1 over tokens: mean -1/3, deviation sqrt(8)/3.
    settled, _ = learned_of("reinforce++baseline", [1.0, 3.0], mask, **GROUPED)
    found = settled.advantages_BT[settled.batch.mask_BT.bool()].tolist()
    low, high = (-1 + 1 / 3) * 3 / math.sqrt(8), (1 + 1 / 3) * 3 / math.sqrt(8)
    assert found == pytest.approx([low, low, high], **decimals(4))


def test_a_ratio_may_rise_further_than_it_may_fall():
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    old = torch.zeros(4)
    new = torch.log(torch.tensor([1.25, 1.5, 0.75, 5.0])).requires_grad_(True)
    loss = losses.clipped_policy_loss(new, old, advantages, 0.2, 0.28)
    # 1.25 is inside, 1.5 is cut to 1.28; 0.75 is cut to 0.8; a bad token at 5 is not cut at all.
    assert loss.tolist() == pytest.approx([-1.25, -1.28, 0.8, 5.0], **FORMULA)
    loss.sum().backward()
    assert new.grad.tolist() == pytest.approx([-1.25, 0.0, 0.0, 5.0], **FORMULA)
    bounded = losses.clipped_policy_loss(new.detach(), old, advantages, 0.2, 0.28, dual_clip=3.0)
    assert bounded.tolist() == pytest.approx([-1.25, -1.28, 0.8, 3.0], **FORMULA)
    shares = losses.clipped_fraction(new.detach(), old, 0.2, 0.28)
    assert shares.tolist() == [0.0, 1.0, 1.0, 1.0]


def test_the_ratio_of_a_response_is_the_geometric_mean_of_its_tokens():
    # Changes of 0.3 and -0.1 mean 0.1: ratio exp(0.1) within 1.2 on both tokens; alone 0.3 is cut.
    mask = [[1.0, 1.0], [1.0, 0.0]]
    settings = {"group_std": False, **GROUPED}
    learned, config = learned_of("grpo", [3.0, 1.0], mask, **settings, ratio="sequence")
    loss, grad = loss_and_slope(learned, config, [0.3, -0.1, 0.0])
    assert loss == pytest.approx((-2 * math.exp(0.1) + 1) / 3, **FORMULA)
    # Each of two tokens moves the mean by a half, and both copies of it count.
    assert grad == pytest.approx([-math.exp(0.1) / 3, -math.exp(0.1) / 3, 1 / 3], **FORMULA)
    alone, config = learned_of("grpo", [3.0, 1.0], mask, **settings)
    loss, grad = loss_and_slope(alone, config, [0.3, -0.1, 0.0])
    assert loss == pytest.approx((-1.2 - math.exp(-0.1) + 1) / 3, **FORMULA)
    assert grad == pytest.approx([0.0, -math.exp(-0.1) / 3, 1 / 3], **FORMULA)


@pytest.mark.parametrize(
    ("mean", "slopes"),
    [
        ("token", [-1 / 3, -1 / 3, 1 / 3]),
        ("response", [-1 / 4, -1 / 4, 1 / 2]),
        ("limit", [-1 / 16, -1 / 16, 1 / 16]),
    ],
)
def test_means_of_the_loss(mean, slopes):
    # Advantages 1, 1 and -1 on responses of 2 tokens and 1; the limit is 8.
    mask = [[1.0, 1.0], [1.0, 0.0]]
    learned, config = learned_of(
        "grpo", [3.0, 1.0], mask, group_std=False, loss_mean=mean, max_new_tokens=8, **GROUPED
    )
    assert loss_and_slope(learned, config, [0.0, 0.0, 0.0])[1] == pytest.approx(slopes, **FORMULA)


@pytest.mark.parametrize("mean", ["token", "response", "limit"])
def test_a_response_that_was_cut_off_counts_nowhere(mean):
    mask = [[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]
    settings = {"loss_mean": mean, "max_new_tokens": 8, "samples_per_prompt": 2, "batch_size": 4}
    scores = [3.0, 1.0, 4.0, 1.0]
    cut, config = learned_of(
        "grpo", scores, mask, ended=[True, True, False, True], mask_overlong=True, group_std=False, **settings
    )
    weights = loss_weights(cut, [0, 1, 2, 3], config)
    assert weights[2].tolist() == [0.0, 0.0]
    # What the three others count is what they would without the fourth, over 6 tokens and not 4.
    whole, config = learned_of("grpo", scores, mask, group_std=False, **settings)
    three = loss_weights(whole, [0, 1, 3], config) / 4
    assert (weights / 6)[[0, 1, 3]].tolist() == [
        pytest.approx(row, **FORMULA) for row in three[[0, 1, 3]].tolist()
    ]
    assert float(loss_weights(whole, [0, 1], config)[2:].sum()) == 0.0


def test_where_every_response_was_cut_off_nothing_is_learned():
    learned, config = learned_of(
        "grpo", [3.0, 1.0], [[1.0], [1.0]], ended=[False, False], mask_overlong=True, **GROUPED
    )
    assert loss_and_slope(learned, config, [0.0, 0.0]) == (0.0, [0.0, 0.0])


def test_groups_whose_scores_are_alike_are_found_and_replaced():
    assert flat_groups([1.0, 1.0, 0.0, 1.0, 2.0, 2.0 + 1e-9], 2) == [0, 2]
    values = {"reward": [1.0, 1.0, 0.0, 1.0, 2.0, 2.0], "length": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
    fresh = {"reward": [7.0, 8.0, 9.0, 0.0], "length": [70.0, 80.0, 90.0, 100.0]}
    assert with_values(values, fresh, [0, 2], 2) == {
        "reward": [7.0, 8.0, 0.0, 1.0, 9.0, 0.0],
        "length": [70.0, 80.0, 3.0, 4.0, 90.0, 100.0],
    }


def test_resampling_leaves_fewer_groups_that_teach_nothing(tmp_path):
    changes = {
        "advantage": "grpo", "samples_per_prompt": 2, "batch_size": 32, "iterations": 2, "epochs": 1,
    }  # fmt: skip
    (tmp_path / "plain").mkdir()
    (tmp_path / "again").mkdir()
    plain, _ = learn(tmp_path / "plain", **changes)
    again, _ = learn(tmp_path / "again", resample_rounds=8, **changes)
    # Uniform responses of up to three tokens: two of them hold as many ones in 43 % of pairs.
    flat = round(plain[0]["flat_groups"] * 16)
    assert flat > 0 and plain[0]["groups_replaced"] == 0
    assert again[0]["flat_groups"] == 0.0 and again[0]["groups_replaced"] >= flat
    assert again[0]["n"] == plain[0]["n"] == 32
    # The same seed samples the same groups again.
    (tmp_path / "third").mkdir()
    third, _ = learn(tmp_path / "third", resample_rounds=8, **changes)
    assert [line["reward"] for line in third] == [line["reward"] for line in again]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"resample_rounds": 1}, "set samples_per_prompt to 2 or more"),
        (
            {"resample_rounds": 1, "samples_per_prompt": 2, "save_rollouts": True},
            "set save_rollouts=false or resample_rounds=0",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_told(settings, says):
    with pytest.raises(ValueError, match=says):
        PPOConfig(**settings)


def test_the_first_pass_gives_the_old_log_probabilities(tmp_path, monkeypatch):
    from safetensors.torch import load_file

    passes = []
    forward = ActorCritic.forward

    def counted(self, *args, **kwargs):
        passes.append(torch.is_grad_enabled())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(ActorCritic, "forward", counted)
    changes = {
        "advantage": "grpo", "samples_per_prompt": 4, "batch_size": 32, "iterations": 3, "epochs": 2,
        "kl_coef": 0.1, "microbatch_tokens": 32,
    }  # fmt: skip
    found = {}
    for name in ("spared", "before"):
        if name == "before":
            slow = replace(ALGORITHMS["grpo"], needs_logprobs=True)
            monkeypatch.setitem(ALGORITHMS, "grpo", slow)
        (tmp_path / name).mkdir()
        passes.clear()
        lines, _ = learn(tmp_path / name, **changes)
        found[name] = [{key: value for key, value in line.items() if "second" not in key} for line in lines]
        found[name].append(passes.count(False))
    # The pass before the update had no graph but for the piece that it kept; now there is none.
    assert found["spared"].pop() == 0 and found["before"].pop() > 0
    assert found["spared"] == found["before"]
    assert all(line["first_ratio_error"] == 0.0 and line["entropy"] > 0 for line in found["spared"])
    one, other = (load_file(tmp_path / name / "out" / "model.safetensors") for name in ("spared", "before"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("name", "settings", "spared"),
    [
        ("grpo", {}, True),
        ("grpo", {"kl_in": "reward"}, False),
        ("grpo", {"kl_in": "reward", "kl_coef": 0.0}, True),
        ("grpo", {"minibatches": 2}, False),
        ("grpo", {"old_logprobs": "engine"}, False),
        ("grpo", {"importance_cap": 2.0}, False),
        ("rloo", {}, False),
        ("rloo", {"kl_in": "loss"}, True),
        ("gae", {"kl_in": "loss"}, False),
    ],
)
def test_when_a_pass_is_spared(name, settings, spared):
    assert first_pass_measures(ALGORITHMS[name], PPOConfig(advantage=name, **settings)) is spared
