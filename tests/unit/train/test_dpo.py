"""DPO's loss and figures by hand, and that how a batch is cut changes nothing."""

import math
import random

import pytest
import torch
from tolerance import GRADIENT, summed, tensors
from train_models import tiny_causal

from constitute.config.train import DPOConfig
from constitute.data.pairs import PreferencePair
from constitute.train.common.batching import Batching
from constitute.train.common.models import Actor
from constitute.train.dpo import PairLogprobs, answer_logprobs, dpo_losses, held_out_doubt, implicit_rewards
from constitute.train.reward.pairs import TokenPair


def token_pairs(n, seed=0):
    """Pairs of unlike lengths after prompts of unlike lengths; weights 1, 2, 3, 1, ..."""
    rng = random.Random(seed)
    found = []
    for at in range(n):
        prompt = [rng.randrange(3, 32) for _ in range(rng.randrange(1, 9))]
        sides = [prompt + [rng.randrange(3, 32) for _ in range(rng.randrange(1, 20))] for _ in range(2)]
        found.append(TokenPair(*sides, len(prompt), PreferencePair((), "a", "b", rng.random(), 1.0 + at % 3)))
    return found


@torch.no_grad()
def alone(model, sequence, start):
    """log P of the tokens from `start` on, by the model's own forward pass, unpadded."""
    logprobs = model(torch.tensor([sequence])).logits[0, :-1].double().log_softmax(-1)
    return sum(logprobs[place - 1, sequence[place]].item() for place in range(start, len(sequence)))


def test_log_probabilities_are_those_of_the_answers_alone():
    model, pairs = tiny_causal(32), token_pairs(9)
    for budget in (1, 64, 1 << 20):
        found = answer_logprobs(Actor(model), pairs, Batching(0, budget))
        for side in ("chosen", "rejected"):
            expected = [alone(model, getattr(pair, side), pair.prompt_length) for pair in pairs]
            assert getattr(found, f"{side}_N").tolist() == pytest.approx(expected, **summed(20))


@pytest.mark.parametrize("labels", ["soft", "hard", "clamped"])
def test_the_loss_by_hand_however_it_is_cut(labels):
    model, reference, pairs = tiny_causal(32), tiny_causal(32, seed=1), token_pairs(9)
    known = answer_logprobs(Actor(reference), pairs, Batching(0, 1 << 20))
    expected = 0.0
    for pair in pairs:
        ratios = [
            alone(model, side, pair.prompt_length) - alone(reference, side, pair.prompt_length)
            for side in (pair.chosen, pair.rejected)
        ]
        prefers = 1 / (1 + math.exp(-0.3 * (ratios[0] - ratios[1])))
        p = pair.row.chosen_prob
        p = {"soft": p, "hard": float(p > 0.5), "clamped": min(max(p, 0.4), 0.6)}[labels]
        expected -= pair.row.weight * (p * math.log(prefers) + (1 - p) * math.log(1 - prefers))
    gradients = []
    for budget in (1, 100, 1 << 20):
        config = DPOConfig(beta=0.3, labels=labels, microbatch_tokens=budget)
        loss = dpo_losses(Actor(model), known, pairs, config, 0)(range(9))
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        model.zero_grad()
        loss.backward()
        gradients.append(model.lm_head.weight.grad.clone())
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], **tensors(GRADIENT))
    # Rows are named by their place among all pairs, so references and weights go with them.
    some = DPOConfig(beta=0.3, labels=labels)
    loss_sum = dpo_losses(Actor(model), known, pairs, some, 0)
    parts = loss_sum([4, 1]) + loss_sum([0, 2, 3]) + loss_sum([8, 7, 6, 5])
    assert parts.item() == pytest.approx(expected, rel=1e-4)


def test_implicit_rewards_by_hand():
    after = PairLogprobs(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-3.0, -2.0, -9.0]))
    before = PairLogprobs(torch.tensor([-2.0, -1.0, -3.0]), torch.tensor([-2.0, -3.0, -9.0]))
    figures = implicit_rewards(after, before, [0.9, 0.8, 0.5], 0.5, seed=0)
    # Log-ratios 1, -1, 0 against -1, 1, 0: margins 1, -1, 0 after beta; the undecided pair has no right side.
    assert figures["accuracy"].value == 0.5 and figures["accuracy"].n == 2
    assert figures["margin"].value == pytest.approx(0.0)
    assert figures["log_ratio_chosen"].value == 0.0 and figures["log_ratio_rejected"].value == 0.0
    assert figures["log_ratio_chosen"].n == 3
    softplus = math.log1p(math.e)
    nll = ((softplus - 0.9) + (softplus - 1 + 0.8) + math.log(2)) / 3
    assert figures["nll"].value == pytest.approx(nll)
    empty = torch.zeros(0)
    assert implicit_rewards(PairLogprobs(empty, empty), PairLogprobs(empty, empty), [], 0.5, seed=0) == {}


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (0, ""),
        (1, "are of 1 pair, and below 20"),
        (2, "are of 2 pairs, and below 20 they may be chance; give more pairs, or raise train.dpo.held_out"),
        (20, ""),
    ],
)
def test_figures_of_few_held_out_pairs_are_in_doubt(pairs, said):
    found = held_out_doubt(pairs)
    assert said in found.get("held_out_doubt", "") and bool(found) == bool(said)
