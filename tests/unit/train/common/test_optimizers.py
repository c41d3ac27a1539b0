"""The three forms of AdamW: their numbers, their states, and where they are refused."""

import importlib.util
import sys

import pytest
import torch
from torch import nn

from constitute.errors import UsageError
from constitute.train.common.optimizers import OffloadedAdamW, make_optimizer, optimizer_class


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 11), nn.Tanh(), nn.Linear(11, 3))


def groups(model):
    return [{"params": list(model[0].parameters()), "lr": 3e-2}, {"params": list(model[2].parameters())}]


def steps(model, optimizer, first, last):
    """Train on batches that depend on the step alone, at a rate that falls."""
    for step in range(first, last):
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        x = torch.randn(5, 7, generator=torch.Generator().manual_seed(step))
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def trained(*names):
    """Weights after four steps with each optimizer in turn, which goes on from the state before."""
    model, stored = network(), None
    for place, name in enumerate(names):
        optimizer = make_optimizer(name, groups(model), lr=1e-2, eps=1e-5)
        if stored is not None:
            optimizer.load_state_dict(stored)
        steps(model, optimizer, 4 * place, 4 * place + 4)
        stored = optimizer.state_dict()
    return list(model.parameters())


@pytest.mark.parametrize(
    "names", [("adamw_offload",) * 2, ("adamw", "adamw_offload"), ("adamw_offload", "adamw")]
)
def test_moments_on_the_cpu_change_no_bit(names):
    expected = trained("adamw", "adamw")
    assert all(torch.equal(a, b) for a, b in zip(trained(*names), expected, strict=True))
    assert not torch.equal(expected[0], network()[0].weight)


@pytest.mark.parametrize("name", ["adamw", "adamw_offload"])
def test_two_steps_by_hand(name):
    """Gradients 2 and then -1 at a rate of 0.1: m = 0.2 and 0.08, v = 0.004 and 0.004996, then corrected."""
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = make_optimizer(name, [weight], lr=0.1)
    weight.grad = torch.tensor([2.0])
    optimizer.step()
    assert weight.item() == pytest.approx(0.9, abs=1e-6)
    weight.grad = torch.tensor([-1.0])
    optimizer.step()
    assert weight.item() == pytest.approx(0.9 - 0.1 * (0.08 / 0.19) / (0.004996 / 0.001999) ** 0.5, abs=1e-6)


def test_a_stored_state_is_copied_and_stays_in_host_memory():
    model = network()
    optimizer = OffloadedAdamW(model.parameters(), lr=1e-2)
    steps(model, optimizer, 0, 1)
    other = OffloadedAdamW(model.parameters(), lr=1e-2)
    other.load_state_dict(optimizer.state_dict())
    before = {name: value.clone() for name, value in other.state[model[0].weight].items()}
    steps(model, optimizer, 1, 2)
    kept = other.state[model[0].weight]
    assert all(torch.equal(kept[name], value) for name, value in before.items())
    assert {str(value.device) for value in kept.values()} == {"cpu"}


def test_eight_bits_without_torchao_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(UsageError, match=r"needs the package torchao.*pip install torchao.*adamw_offload"):
        make_optimizer("adamw_8bit", network().parameters(), lr=1e-2)


@pytest.mark.parametrize("name", ["adamw_8bit", "adamw_offload"])
def test_sharded_weights_take_plain_adamw(name):
    with pytest.raises(UsageError, match=f"train.optimizer={name} does not go with sharded weights"):
        optimizer_class(name, sharded=True)
    assert optimizer_class("adamw", sharded=True)[0] is torch.optim.AdamW


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
def test_eight_bits_stay_near_and_are_stored(tmp_path):
    """Weights of 4096 numbers and more have moments of 8 bits; the step differs by their rounding."""
    finals = []
    for name in ("adamw", "adamw_8bit"):
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(64, 128))
        start = weight.detach().clone()
        optimizer = make_optimizer(name, [weight], lr=1e-2)
        for step in range(6):
            weight.grad = torch.randn(64, 128, generator=torch.Generator().manual_seed(step))
            optimizer.step()
            if step == 2:
                torch.save(optimizer.state_dict(), tmp_path / "state.pt")
                optimizer = make_optimizer(name, [weight], lr=1e-2)
                optimizer.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        finals.append(weight.detach() - start)
    exact, rounded = finals
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.05
