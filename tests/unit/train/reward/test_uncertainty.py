"""Standard errors by hand, their coverage, and a choice by the lower bound in a linear bandit."""

import math

import pytest
import torch
from tolerance import FORMULA, LOGPROB
from unit.train.reward.test_kwise import fitted
from unit.train.reward.test_train import classifier, token_pairs

from constitute.errors import UsageError
from constitute.train.common.batching import Batching
from constitute.train.reward.model import Normalisation, RewardModel, combined, last_states, raw_scores
from constitute.train.reward.pairs import sides_of
from constitute.train.reward.uncertainty import load_uncertainty, measure


def test_errors_by_hand():
    # x = (2, 0) at p = 1/2 twice, the second of weight 3: A = 3 I + diag(0.25 * 4 * (1 + 3), 0) = diag(7, 3).
    chosen, rejected = torch.tensor([[2.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [1.0, 4.0]])
    known = measure(chosen, rejected, torch.zeros(2), torch.tensor([1.0, 3.0]))
    assert known.centre_D.tolist() == [1.5, 2.0]
    at = torch.tensor([[1.5, 2.0], [8.5, 2.0], [1.5, 5.0], [8.5, 5.0]])
    expected = [0.0, 7 / math.sqrt(7), 3 / math.sqrt(3), math.sqrt(7 + 3)]
    assert known.errors(at).tolist() == pytest.approx(expected, **FORMULA)
    # Along w = (1, 0) the pair is sure: p (1 - p) = 0.1050 in the place of 1/4.
    sure = measure(chosen[:1], rejected[:1], torch.tensor([1.0, 0.0]), torch.ones(1))
    assert sure.errors(torch.tensor([[2.0, 0.0]])).item() == pytest.approx(
        1 / math.sqrt(3 + 4 * 0.104994), rel=1e-5
    )


def test_the_bound_is_the_score_less_the_errors_in_units_of_the_score():
    normal = Normalisation((1.0,), (2.0,), "lower_bound", 1.5)
    got = combined(torch.tensor([[5.0], [1.0]]), normal, torch.tensor([0.8, 0.0]))
    assert got.tolist() == pytest.approx([2.0 - 1.5 * 0.4, 0.0], **FORMULA)


def bandit(seed, n, width, truth):
    """Features of n pairs, and the MAP head under the prior that the errors assume."""
    generator = torch.Generator().manual_seed(seed)
    x_ND = 3.0 * torch.randn(n, width, generator=generator, dtype=torch.float64)
    won_N = torch.rand(n, generator=generator, dtype=torch.float64) < (x_ND @ truth).sigmoid()
    x_ND = torch.where(won_N[:, None], x_ND, -x_ND)

    def loss(theta):
        return torch.nn.functional.softplus(-(x_ND @ theta)).sum() + (width + 1) / 2 * theta.square().sum()

    return x_ND, fitted(loss, width)


def test_errors_cover_the_truth_as_often_as_they_say():
    width, hits = 4, []
    for seed in range(40):
        truth = torch.randn(width, generator=torch.Generator().manual_seed(1000 + seed), dtype=torch.float64)
        truth = truth / math.sqrt(width + 1)
        x_ND, theta = bandit(seed, 40, width, truth)
        known = measure(x_ND / 2, -x_ND / 2, theta, torch.ones(40))
        at = torch.randn(50, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        misses = ((at - known.centre_D) @ (theta - truth)).abs()
        hits.append((misses <= 1.96 * known.errors(at)).double().mean().item())
    # 40 independent bandits of mean coverage 0.95: the standard error is about 0.02.
    assert 0.90 < sum(hits) / len(hits) < 0.99


def test_a_choice_by_the_lower_bound_beats_that_of_the_most_likely_reward():
    """As in arXiv 2301.11270: arms seen once look best by chance, and are chosen by the MLE.

    Arms 0 and 1 are compared with the base (an arm of features 0) 60 times each, 20 others once each; arm 0
    is worth 1, arm 1 0.5, the others -1. The paper's radius grows with the root of d + ln(1 / delta), 5 here,
    before its constant; it is taken as 4.
    """
    arms, value = 5.0 * torch.eye(22, dtype=torch.float64), torch.full((22,), -1.0, dtype=torch.float64)
    value[0], value[1] = 1.0, 0.5
    seen = torch.tensor([0] * 60 + [1] * 60 + list(range(2, 22)))
    worth = {"likely": 0.0, "bound": 0.0}
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        won_N = torch.rand(len(seen), generator=generator, dtype=torch.float64) < value[seen].sigmoid()
        x_ND = torch.where(won_N[:, None], arms[seen], -arms[seen])
        # Almost no ridge: the most likely reward of an arm that won its only comparison is great.
        theta = fitted(lambda t, x=x_ND: torch.nn.functional.softplus(-(x @ t)).sum() + t.square().sum(), 22)
        known = measure(arms[seen], torch.zeros_like(x_ND), theta, torch.ones(len(seen)))
        errors = known.errors(arms)
        worth["likely"] += value[(arms @ theta).argmax()].item() / 10
        worth["bound"] += value[(arms @ theta - 4.0 * errors).argmax()].item() / 10
    assert worth["likely"] == pytest.approx(-1.0, **FORMULA)
    assert worth["bound"] > 0.7


def test_a_saved_bound_scores_alike_wherever_it_is_loaded(tmp_path):
    model = classifier()
    pairs, batching = token_pairs(12), Batching(0, 64)
    states = last_states(model, torch.device("cpu"), sides_of(pairs), batching)
    raw = raw_scores(model, model.score, sides_of(pairs), batching)
    with torch.no_grad():
        assert torch.allclose(model.score(states), raw, atol=1e-6)
        one = model.model(torch.tensor([pairs[3].chosen])).last_hidden_state[0, -1]
    assert states[3].tolist() == pytest.approx(one.tolist(), rel=1e-4, abs=1e-5)

    known = measure(*states.chunk(2), model.score.weight[0].detach(), torch.ones(12))
    Normalisation((0.5,), (2.0,), "lower_bound", 3.0).write(model.config)
    with pytest.raises(UsageError, match="scores by a lower bound and has no uncertainty"):
        RewardModel(model, str(tmp_path), torch.device("cpu"))
    known.save(tmp_path)
    again = load_uncertainty(str(tmp_path))
    assert torch.equal(again.root_DD, known.root_DD)
    scores = RewardModel(model, str(tmp_path), torch.device("cpu")).scores(sides_of(pairs), batching)
    expected = (raw[:, 0] - 0.5) / 2.0 - 3.0 * known.errors(states) / 2.0
    assert scores == pytest.approx(expected.tolist(), **LOGPROB)
    assert max(known.errors(states)) > 0.01
