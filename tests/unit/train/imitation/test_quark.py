"""Quantiles of a pool by hand, and what the models of conditioned methods are held in."""

from types import SimpleNamespace

import pytest
import torch

from constitute.train.common import precision
from constitute.train.common.team import Team
from constitute.train.imitation.control import reward_tokens
from constitute.train.imitation.pool import quantile_of
from constitute.train.imitation.start import start_actor


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


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("rank", "trained", "learns"), [(0, True, "all"), (2, True, "adapters"), (0, False, "nothing")]
)
def test_what_is_not_trained_is_held_as_passes_use_it(tiny_model, monkeypatch, half, rank, trained, learns):
    """Of `train conditioned` and of Quark: all weights, a base under adapters, and the KL's reference."""
    monkeypatch.setattr(precision, "half", lambda: half)
    team = Team(SimpleNamespace(device=torch.device("cpu")), 0, 1)
    actor, _ = start_actor(str(tiny_model), ("<|good|>",), rank, 0, team, trained=trained)
    found = {(weight.requires_grad, weight.dtype) for weight in actor.parameters()}
    frozen = (False, torch.bfloat16 if half else torch.float32)
    expected = {"all": {(True, torch.float32)}, "nothing": {frozen}}
    assert found == expected.get(learns, {(True, torch.float32), frozen})
