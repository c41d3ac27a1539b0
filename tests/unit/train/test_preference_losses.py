"""The losses of pairs by hand, with hard and soft labels, and what their settings refuse."""

import math

import pytest
import torch
from tolerance import FORMULA

from constitute.config.train import DPOConfig
from constitute.errors import UsageError
from constitute.train.common.losses import soft_label_loss
from constitute.train.preference_losses import LOSSES, Answers, preference_loss, soft


def sig(x):
    return 1 / (1 + math.exp(-x))


def odds(p):
    return p / (1 - p)


# log P -4 over 4 tokens from -6, and -9 over 3 from -8: log-ratios 2 and -1, means -1 and -3.
CHOSEN = Answers(torch.tensor([-4.0]), torch.tensor([-6.0]), torch.tensor([4]))
REJECTED = Answers(torch.tensor([-9.0]), torch.tensor([-8.0]), torch.tensor([3]))
BY_HAND = {
    "sigmoid": ({"beta": 0.5}, -math.log(sig(1.5)), -math.log(sig(-1.5))),
    "ipo": ({"beta": 0.5}, (3 - 1) ** 2, (-3 - 1) ** 2),
    "simpo": ({"beta": 2.0, "gap": 0.5}, -math.log(sig(4 - 0.5)), -math.log(sig(-4 - 0.5))),
    "orpo": (
        {"beta": 0.1},
        1 - 0.1 * math.log(sig(math.log(odds(math.exp(-1)) / odds(math.exp(-3))))),
        3 - 0.1 * math.log(sig(math.log(odds(math.exp(-3)) / odds(math.exp(-1))))),
    ),
    "rrhf": ({}, 0 + 1, 2 + 3),
}


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("prob", [1.0, 0.5, 0.2])
def test_losses_by_hand(name, prob):
    settings, right, wrong = BY_HAND[name]
    config = DPOConfig(loss=name, **settings)
    loss = preference_loss(config).loss
    found = soft(loss, CHOSEN, REJECTED, torch.tensor([prob]), config)
    assert found.tolist() == [pytest.approx(prob * right + (1 - prob) * wrong, **FORMULA)]
    # The label of the swapped pair is the rest, and the loss is the same.
    swapped = soft(loss, REJECTED, CHOSEN, torch.tensor([1 - prob]), config)
    assert swapped.tolist() == pytest.approx(found.tolist(), **FORMULA)


def test_dpo_with_a_soft_label_is_the_cross_entropy_of_its_sigmoid():
    config = DPOConfig(beta=0.3)
    ratios = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    prob = torch.linspace(0, 1, 50)
    zeros, ones = torch.zeros(50), torch.ones(50)
    chosen, rejected = Answers(ratios[0], zeros, ones), Answers(ratios[1], zeros, ones)
    found = soft(LOSSES["sigmoid"].loss, chosen, rejected, prob, config)
    torch.testing.assert_close(found, soft_label_loss(0.3 * ratios[0], 0.3 * ratios[1], prob))


def test_odds_of_a_certain_answer_are_finite():
    certain = Answers(torch.tensor([0.0], requires_grad=True), torch.zeros(1), torch.tensor([2]))
    loss = LOSSES["orpo"].loss(certain, REJECTED, DPOConfig(loss="orpo"))
    loss.backward()
    assert torch.isfinite(loss).all() and torch.isfinite(certain.logprobs_B.grad).all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"loss": "ippo"}, "no such loss (train.dpo.loss): 'ippo'; did you mean 'ipo'?"),
        ({"gap": 1.0}, "train.dpo.gap is 1 and loss=sigmoid has none; set loss=simpo or gap=0"),
    ],
)
def test_settings_that_do_not_fit_are_told(settings, says):
    with pytest.raises(UsageError) as told:
        preference_loss(DPOConfig(**settings))
    assert str(told.value) == says
