"""Online DPO and f-DPG by hand, and that responses of a prompt stay together."""

import math
from dataclasses import replace

import pytest
import torch
from tolerance import FORMULA
from unit.train.ppo.test_algorithms import batch_of, learn

from constitute.config.ppo import PPOConfig
from constitute.train.ppo.algorithms import ALGORITHMS
from constitute.train.ppo.experience import Groups, experience, first_pass_measures
from constitute.train.ppo.f_dpg import DIVERGENCES
from constitute.train.ppo.online_dpo import best_against_worst
from constitute.train.ppo.update import _minibatches, _piece_loss, loss_weights


def sig(x):
    return 1 / (1 + math.exp(-x))


# Log-ratios 1, -1, 0.5 and 2, 0, 0; the best and worst are the third and first, then the first and last.
GROUPS = Groups(
    torch.tensor([[-1.0, -4.0, -2.0], [-3.0, -2.0, -5.0]], requires_grad=True),
    torch.tensor([[-2.0, -3.0, -2.5], [-5.0, -2.0, -5.0]]),
    torch.tensor([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]]),
    0.5,
)


def test_online_dpo_by_hand():
    soft = best_against_worst(GROUPS, PPOConfig())
    p = sig(2.0)
    # Margin 0.5 (0.5 - 1) = -0.25 under P = sigmoid(2); equal scores: 0.5 (2 - 0) = 1 under one half.
    first = -p * math.log(sig(-0.25)) - (1 - p) * math.log(sig(0.25))
    second = -0.5 * math.log(sig(1.0)) - 0.5 * math.log(sig(-1.0))
    assert soft.tolist() == pytest.approx([first, second], **FORMULA)
    (slope,) = torch.autograd.grad(soft.sum(), GROUPS.logprobs_PK)
    expected = 0.5 * (sig(-0.25) - p)
    assert slope[0].tolist() == pytest.approx([-expected, 0.0, expected], **FORMULA)
    hard = best_against_worst(GROUPS, PPOConfig(pair_labels="hard"))
    assert hard.tolist() == [pytest.approx(-math.log(sig(-0.25)), **FORMULA), 0.0]


def test_a_loss_of_groups_is_the_mean_over_prompts_however_it_is_cut():
    # Two prompts of two: responses of 2, 1, 1 and 2 tokens; log-ratios 2, 1, 1 and 2 nats as sums.
    mask = [[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    config = PPOConfig(advantage="online_dpo", samples_per_prompt=2, batch_size=4, kl_coef=0.5)
    algorithm = ALGORITHMS["online_dpo"]
    learned = experience(batch_of(algorithm, [3.0, 1.0, 0.0, 4.0], mask, config, kl=1.0, kl_coef=0.5))
    rows = [0, 1, 2, 3]
    weights = loss_weights(learned, rows, config)

    def loss_of(piece):
        new = learned.batch.logprobs_BT[piece][learned.batch.mask_BT[piece].bool()]
        return _piece_loss((new, new, torch.zeros(len(new))), learned, piece, config, weights)[0].item()

    pairs = [(0.5 * (2 - 1), sig(2.0)), (0.5 * (2 - 1), sig(4.0))]
    each = [-p * math.log(sig(m)) - (1 - p) * math.log(sig(-m)) for m, p in pairs]
    # `_accumulate` divides by the 6 tokens.
    assert loss_of(rows) / 6 == pytest.approx(sum(each) / 2, **FORMULA)
    assert loss_of([0, 1]) + loss_of([2, 3]) == pytest.approx(loss_of(rows), **FORMULA)
    assert loss_of([2, 3, 0, 1]) == pytest.approx(loss_of(rows), **FORMULA)


def test_minibatches_keep_the_responses_of_a_prompt_together():
    parts = _minibatches(12, 2, 0, unit=3)
    assert sorted(row for part in parts for row in part) == list(range(12))
    assert [len(part) for part in parts] == [6, 6]
    starts = [part[place : place + 3] for part in parts for place in (0, 3)]
    assert all(rows == list(range(rows[0], rows[0] + 3)) and rows[0] % 3 == 0 for rows in starts)
    assert [rows[0] for rows in starts] != [0, 3, 6, 9]


def test_online_dpo_spares_the_pass_before_the_update():
    config = PPOConfig(advantage="online_dpo", samples_per_prompt=2)
    assert first_pass_measures(ALGORITHMS["online_dpo"], config)
    assert not first_pass_measures(ALGORITHMS["f_dpg"], replace_name(config, "f_dpg"))


def replace_name(config, name):
    return config.model_copy(update={"advantage": name})


@pytest.mark.parametrize(
    ("name", "pseudo"),
    [
        ("forward_kl", lambda w: w),
        ("reverse_kl", lambda w: math.log(w)),
        ("js", lambda w: math.log((1 + w) / 2)),
        ("tv", lambda w: 0.5 * (w > 1) - 0.5 * (w < 1)),
    ],
)
def test_f_dpg_by_hand(name, pseudo):
    # Log-ratios 2 and 1 nats, scores 1 and 0 at beta 0.5: raw weights exp(2 - 2) and exp(0 - 1).
    mask = [[1.0, 1.0], [1.0, 0.0]]
    config = PPOConfig(advantage="f_dpg", samples_per_prompt=2, batch_size=2, divergence=name)
    learned = experience(batch_of(ALGORITHMS["f_dpg"], [1.0, 0.0], mask, config, kl=1.0, kl_coef=0.5))
    raw = [1.0, math.exp(-1)]
    weights = [each / (sum(raw) / 2) for each in raw]
    gap = pseudo(weights[0]) - pseudo(weights[1])
    found = learned.advantages_BT.tolist()
    assert found[0] == [pytest.approx(gap, **FORMULA)] * 2
    assert found[1] == [pytest.approx(-gap, **FORMULA), 0.0]
    # At the target every weight is 1, whatever the divergence, and nothing is left to learn.
    at_target = replace(learned.batch, scores_B=torch.tensor([1.0, 0.5]))
    assert experience(at_target).advantages_BT.tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_pseudo_rewards_are_minus_the_slope_of_the_divergence(name):
    generators = {
        "forward_kl": lambda t: -t.log(),
        "reverse_kl": lambda t: t * t.log(),
        "js": lambda t: t * t.log() - (t + 1) * ((t + 1) / 2).log(),
        "tv": lambda t: (t - 1).abs() / 2,
    }
    t = torch.tensor([0.1, 0.5, 0.9, 1.5, 4.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(generators[name](t).sum(), t)
    offset = (DIVERGENCES[name](-t.detach().log()) + slope).tolist()
    # Up to a constant, which the baseline takes off.
    assert offset == pytest.approx([offset[0]] * 5, abs=1e-12)


@pytest.mark.parametrize("minibatches", [1, 2])
@pytest.mark.parametrize("budget", [8, 8192])
def test_online_dpo_learns_however_its_pairs_are_cut(tmp_path, minibatches, budget):
    lines, summary = learn(
        tmp_path, advantage="online_dpo", samples_per_prompt=2, kl_coef=0.25, minibatches=minibatches,
        microbatch_tokens=budget, iterations=3, batch_size=32,
    )  # fmt: skip
    assert summary["critic_from"] == "none: online_dpo needs no critic"
    # At the first step policy and reference are the same: the loss of every pair is log 2.
    if minibatches == 1:
        assert lines[0]["first_ratio_error"] == 0.0
    assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert lines[2]["kl"] > 1e-3 and 0 < lines[2]["policy_loss"] < math.log(2)
