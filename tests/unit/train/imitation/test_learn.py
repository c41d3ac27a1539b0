"""The terms of conditioned losses by hand, and the whole loss against one written out."""

import math

import pytest
import torch
from train_models import tiny_causal

from constitute.train.common.models import Actor
from constitute.train.imitation.learn import (
    Example,
    Terms,
    contrast_loss,
    entropy_of,
    exact_kl,
    hidden_tokens,
    labelled,
    loss_of,
    row_means,
)

CPU = torch.device("cpu")


def test_contrast_picks_the_own_condition():
    # Own e^-1, other e^-2: p = 1 / (1 + e^-1).
    means = torch.tensor([[-1.0, -2.0]])
    own, other = -math.log(1 / (1 + math.exp(-1))), -math.log(1 / (1 + math.exp(1)))
    assert contrast_loss(means, 0.0).item() == pytest.approx(own)
    assert contrast_loss(means, 0.2).item() == pytest.approx(0.8 * own + 0.2 * other)
    # Three conditions that say the same: ln 3, however it is smoothed.
    assert contrast_loss(torch.zeros(1, 3), 0.2).item() == pytest.approx(math.log(3))


def test_entropy_and_kl_by_hand():
    policy, reference = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    assert entropy_of(policy.log()).item() == pytest.approx(1.5 * math.log(2))
    # KL(reference || policy) = 1/4 ln 1/2 + 0 + 1/2 ln 2 = ln 2 / 4.
    assert exact_kl(reference.log(), policy.log()).item() == pytest.approx(math.log(2) / 4)
    assert exact_kl(policy.log(), policy.log()).item() == 0


def test_row_means():
    found = row_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2, 1]))
    assert found.tolist() == [2.0, 5.0]


def test_hidden_tokens_are_drawn_once_and_never_the_first():
    row = (list(range(21)), [-100] * 21)
    drawn = hidden_tokens(row, 0.15, "0:7")
    assert len(drawn) == 3 and 0 not in drawn and drawn == hidden_tokens(row, 0.15, "0:7")
    assert drawn != hidden_tokens(row, 0.15, "0:8") and hidden_tokens(row, 0.0, "x") == []


def test_a_hidden_token_changes_nothing_after_it():
    actor = Actor(tiny_causal(16, layers=2))
    rows = [([1, 2, 3, 4], [-100, -100, -100, 4]), ([1, 9, 3, 4], [-100, -100, -100, 4])]
    seen = actor(labelled(rows, 0, CPU), 1.0)[0]
    hidden = actor(labelled(rows, 0, CPU, [[1], [1]]), 1.0)[0]
    assert abs(seen[0] - seen[1]) > 1e-4
    assert hidden[0].item() == pytest.approx(hidden[1].item(), abs=1e-6)


def logprobs(network, row):
    ids, labels = row
    found = network(torch.tensor([ids])).logits[0].log_softmax(-1)
    places = [place for place, label in enumerate(labels) if label != -100]
    return found[[place - 1 for place in places]], [labels[place] for place in places]


def test_the_whole_loss_is_the_sum_of_its_terms():
    network, other = tiny_causal(16), tiny_causal(16, seed=1)
    examples = [
        Example(([1, 2, 5, 6], [-100, -100, 5, 6]), (([1, 3, 5, 6], [-100, -100, 5, 6]),)),
        Example(([1, 3, 7], [-100, -100, 7]), (([1, 2, 7], [-100, -100, 7]),)),
    ]
    terms = Terms(contrast=0.5, smoothing=0.2, entropy=0.1, kl=0.3, reference=Actor(other), vocabulary=12)
    with torch.no_grad():
        found = loss_of(Actor(network), examples, terms, 0, 0)([0, 1]).item()
        expected = 0.0
        for example in examples:
            own_NV, ids = logprobs(network, example.row)
            there_NV, _ = logprobs(network, example.others[0])
            known_NV, _ = logprobs(other, example.others[0])
            own, there = (sum(rows[at, i].item() for at, i in enumerate(ids)) for rows in (own_NV, there_NV))
            n = len(ids)
            expected -= own + 0.1 * entropy_of(own_NV).sum().item()
            cut, known = (rows[:, :12].log_softmax(-1) for rows in (own_NV, known_NV))
            expected += 0.3 * exact_kl(known, cut).sum().item()
            expected += 0.5 * n * contrast_loss(torch.tensor([[own / n, there / n]]), 0.2).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_without_terms_the_loss_is_that_of_imitation():
    network = tiny_causal(16)
    example = Example(([1, 2, 5, 6], [-100, -100, 5, 6]))
    own_NV, ids = logprobs(network, example.row)
    nll = -sum(own_NV[at, i].item() for at, i in enumerate(ids))
    assert loss_of(Actor(network), [example], Terms(), 0, 0)([0]).item() == pytest.approx(nll, rel=1e-5)
    assert loss_of(Actor(network), [example], Terms(contrast=1.0), 0, 0)([]).item() == 0
