"""Every formula against numbers worked out by hand or published (research: PPO correctness)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tolerance import FORMULA, decimals

from constitute.train.common import losses

tensor = torch.tensor


@pytest.mark.parametrize(
    ("gamma", "lam", "expected"),
    [
        (1.0, 1.0, [0.9, 0.8, 0.7, 0.6]),
        (1.0, 0.95, [0.799675, 0.7365, 0.67, 0.6]),
        (0.99, 0.95, [0.77329, 0.718012, 0.6603, 0.6]),
        (1.0, 0.0, [0.1, 0.1, 0.1, 0.6]),
    ],
)
def test_gae(gamma, lam, expected):
    rewards, values = tensor([[0.0, 0, 0, 1]]), tensor([[0.1, 0.2, 0.3, 0.4]])
    found = losses.gae(rewards, values, torch.ones(1, 4), gamma, lam)
    assert found[0].tolist() == pytest.approx(expected, **FORMULA)


def test_gae_sees_nothing_beyond_the_end():
    rewards, values = tensor([[0.0, 0, 0, 1, 9, -9]]), tensor([[0.1, 0.2, 0.3, 0.4, 5.0, -7.0]])
    found = losses.gae(rewards, values, tensor([[1.0, 1, 1, 1, 0, 0]]), 1.0, 0.95)
    assert found[0].tolist() == pytest.approx([0.799675, 0.7365, 0.67, 0.6, 0.0, 0.0], **FORMULA)


def test_whitening_divides_by_the_biased_deviation():
    values = tensor([[1.2, 1.3, 1.4], [1.5, 1.6, 1.7], [1.8, 1.9, 2.0]])
    expected = [-1.5492, -1.1619, -0.7746, -0.3873, 0.0, 0.3873, 0.7746, 1.1619, 1.5492]
    assert losses.whiten(values, torch.ones(3, 3)).flatten().tolist() == pytest.approx(
        expected, **decimals(4)
    )


def test_whitening_ignores_what_is_masked():
    values, mask = tensor([[1.0, 3.0, 100.0]]), tensor([[1.0, 1.0, 0.0]])
    assert losses.whiten(values, mask)[0].tolist() == pytest.approx([-1.0, 1.0, 0.0], **FORMULA)


def test_masked_mean():
    assert losses.masked_mean(tensor([1.0, 2.0, 9.0]), tensor([1.0, 1.0, 0.0])).item() == 1.5
    empty = losses.masked_mean(tensor([1.0, math.pi]), torch.zeros(2))
    assert empty.item() == 0.0


def test_score_lands_on_the_last_token_and_kl_on_every_token():
    logprobs, reference = tensor([[-1.0, -2.0, 7.0], [-1.0, -1.0, -1.0]]), tensor([[-1.5, -1.0, 0.0]] * 2)
    mask = tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    found = losses.token_rewards(tensor([3.0, -1.0]), logprobs, reference, mask, 0.1)
    assert found[0].tolist() == pytest.approx([-0.05, 3.1, 0.0], **FORMULA)
    assert found[1].tolist() == pytest.approx([-0.05, 0.0, -0.9], **FORMULA)


def test_clipped_surrogate():
    one = torch.ones(1)
    assert losses.clipped_policy_loss(one, torch.zeros(1), one, 0.2).item() == pytest.approx(-1.2, **FORMULA)
    assert losses.clipped_policy_loss(-one, torch.zeros(1), -one, 0.2).item() == pytest.approx(0.8, **FORMULA)
    # The pessimistic side is never clipped.
    assert losses.clipped_policy_loss(one, torch.zeros(1), -one, 0.2).item() == pytest.approx(
        math.e, **FORMULA
    )
    assert losses.clipped_fraction(tensor([1.0, 0.1, -1.0]), torch.zeros(3), 0.2).tolist() == [1.0, 0.0, 1.0]


def test_clipped_value_loss_takes_the_larger():
    old, returns = torch.zeros(3), tensor([1.0, 1.0, -1.0])
    found = losses.clipped_value_loss(tensor([0.9, 0.1, 0.9]), old, returns, 0.2)
    assert found.tolist() == pytest.approx([0.5 * 0.8**2, 0.5 * 0.9**2, 0.5 * 1.9**2], **FORMULA)


def test_adaptive_kl():
    assert losses.adaptive_kl(0.15, 12.0, 6.0, 512, 10_000) == pytest.approx(0.151536)
    assert losses.adaptive_kl(0.15, 6.0, 6.0, 512, 10_000) == 0.15
    assert losses.adaptive_kl(0.15, 5.4, 6.0, 1000, 10_000) == pytest.approx(0.15 * 0.99)


def test_k3_estimates_the_kl_and_is_never_negative():
    p, q = tensor([0.7, 0.2, 0.1]), tensor([0.3, 0.3, 0.4])
    exact = (p * (p / q).log()).sum()
    assert (p * losses.k3(p.log(), q.log())).sum().item() == pytest.approx(exact.item(), **FORMULA)
    assert losses.k3(tensor([0.0, 1.0]), tensor([0.0, 0.0])).tolist() == pytest.approx(
        [0.0, math.exp(-1)], **FORMULA
    )


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_k2_and_k3_are_not_negative(a, b):
    assert losses.k3(tensor(a), tensor(b)).item() >= -1e-6
    assert losses.approx_kl(tensor(a), tensor(b)).item() >= 0.0


def test_explained_variance():
    returns, mask = tensor([1.0, 2.0, 3.0, 50.0]), tensor([1.0, 1.0, 1.0, 0.0])
    assert losses.explained_variance(returns, returns, mask).item() == 1.0
    assert losses.explained_variance(returns, torch.full((4,), 2.0), mask).item() == 0.0
    assert losses.explained_variance(returns, tensor([3.0, 2.0, 1.0, 0.0]), mask).item() == pytest.approx(
        -3.0, **FORMULA
    )
    assert math.isnan(losses.explained_variance(torch.ones(4), returns, mask).item())


def test_soft_label_loss_is_the_closed_form():
    found = losses.soft_label_loss(tensor([1.0, 0.0]), tensor([0.0, 0.0]), tensor([0.7, 0.9]))
    closed = -0.7 * math.log(1 / (1 + math.exp(-1))) - 0.3 * math.log(1 / (1 + math.e))
    assert found.tolist() == pytest.approx([closed, math.log(2)], **FORMULA)


def test_soft_label_gradient_vanishes_at_the_logit_of_the_label():
    margin = tensor([math.log(0.7 / 0.3)], requires_grad=True)
    losses.soft_label_loss(margin, torch.zeros(1), tensor([0.7])).sum().backward()
    assert margin.item() == pytest.approx(0.8473, **decimals(4)) and abs(margin.grad.item()) < 1e-6
