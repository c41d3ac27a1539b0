"""What must change nothing: padding, company in a batch, micro-batches, adapters that are off."""

import pytest
import torch
from tolerance import GRADIENT, LOGPROB, tensors
from train_models import tiny_causal
from unit.train.common.test_models import (
    CPU,
    SEQUENCES,
    STARTS,
    actor_critic,
    experience_of,
    learner_of,
    rollouts_of,
)

from constitute.config.train import PPOConfig
from constitute.train.common import lora, rollout
from constitute.train.common.batching import collate
from constitute.train.common.models import Actor
from constitute.train.common.rollout import Before, Passes
from constitute.train.ppo.update import _accumulate

__all__ = ["actor_critic"]


def test_company_and_padding_change_no_row(actor_critic):
    """Each row alone, unpadded, gives the log-probabilities and values it has in a padded batch."""
    with torch.no_grad():
        whole = actor_critic(collate(SEQUENCES, STARTS, 0, CPU), 0.7, entropy=True)
        alone = [
            actor_critic(collate([row], [start], 0, CPU), 0.7, entropy=True)
            for row, start in zip(SEQUENCES, STARTS, strict=True)
        ]
    for together, pieces in zip(whole, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(together, torch.cat(pieces), **tensors(LOGPROB))


@pytest.mark.parametrize("pad", [0, 1, 7, 10])
def test_the_pad_token_may_be_any_token(actor_critic, pad):
    """Masks come from lengths: a pad token that also occurs in the text, or ends it, is only filling."""
    with torch.no_grad():
        expected = actor_critic(collate(SEQUENCES, STARTS, 3, CPU), 1.0)
        found = actor_critic(collate(SEQUENCES, STARTS, pad, CPU), 1.0)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **tensors(LOGPROB))


def test_left_padding_changes_no_value(actor_critic):
    """The value function of rows padded on the left, under an attention mask."""
    row, start, width = SEQUENCES[0], STARTS[0], 12
    padding = width - len(row)
    ids = torch.tensor([[0] * padding + row])
    mask = torch.tensor([[0] * padding + [1] * len(row)])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        states = actor_critic.critic(ids, attention_mask=mask, position_ids=positions).last_hidden_state[0]
        left = actor_critic.value_head(states[padding + start - 1 : -1]).squeeze(-1)
        right = actor_critic(collate([row, [*range(11), 1]], [start, 11], 0, CPU), 1.0)[2][: len(left)]
    torch.testing.assert_close(left, right, **tensors(LOGPROB))


def test_packing_changes_nothing(actor_critic):
    """Sequences laid end to end, kept apart by a block mask, give what padded rows give."""
    flat = [token for row in SEQUENCES for token in row]
    owner = torch.tensor([number for number, row in enumerate(SEQUENCES) for _ in row])
    positions = torch.tensor([[place for row in SEQUENCES for place in range(len(row))]])
    order = torch.arange(len(flat))
    seen = (owner[:, None] == owner[None, :]) & (order[:, None] >= order[None, :])
    bias = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        states = actor_critic.critic(
            torch.tensor([flat]), attention_mask=bias, position_ids=positions
        ).last_hidden_state[0]
        logits = actor_critic.actor.model(
            torch.tensor([flat]), attention_mask=bias, position_ids=positions
        ).logits[0]
        logprobs_N, _, values_N = actor_critic(collate(SEQUENCES, STARTS, 0, CPU), 1.0)
    begins = [sum(len(row) for row in SEQUENCES[:number]) for number in range(len(SEQUENCES))]
    at = torch.tensor(
        [
            begin + place - 1
            for begin, row, start in zip(begins, SEQUENCES, STARTS, strict=True)
            for place in range(start, len(row))
        ]
    )
    torch.testing.assert_close(actor_critic.value_head(states[at]).squeeze(-1), values_N, **tensors(LOGPROB))
    packed_N = logits[at].log_softmax(-1).gather(1, torch.tensor(flat)[at + 1][:, None]).squeeze(1)
    torch.testing.assert_close(packed_N, logprobs_N, **tensors(LOGPROB))


@pytest.mark.parametrize("budget", [7, 14, 20])
def test_micro_batching_changes_no_loss_and_no_gradient(actor_critic, budget):
    def gradients(tokens):
        config = PPOConfig(microbatch_tokens=tokens)
        learner = learner_of(actor_critic)
        # Other weights than those that sampled, so that ratios are not 1 and some are clipped.
        torch.manual_seed(1)
        with torch.no_grad():
            for weight in learner.model.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
        learned = experience_of(actor_critic, PPOConfig(microbatch_tokens=10_000))
        sums, count = _accumulate(
            learner, learned, list(range(len(SEQUENCES))), config, Before(Passes(0, tokens), {})
        )
        return sums, count, [weight.grad for weight in learner.model.parameters()]

    sums, count, found = gradients(budget)
    expected_sums, expected_count, expected = gradients(10_000)
    assert count == expected_count == sum(map(len, SEQUENCES)) - sum(STARTS)
    per_token = {name: value / count for name, value in expected_sums.items()}
    assert {name: value / count for name, value in sums.items()} == pytest.approx(per_token, **LOGPROB)
    assert sums["clip_fraction"] > 0
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, **tensors(GRADIENT))


@pytest.mark.parametrize("budget", [7, 14, 1000])
def test_the_order_of_the_rows_is_kept(actor_critic, budget):
    """Length buckets reorder the rows for the forward pass; the results come back in place."""
    rollouts = rollouts_of(SEQUENCES, STARTS)
    (found_BT, _, values_BT), _ = rollout.forward_all(
        lambda batch: actor_critic(batch, 1.0), rollouts, range(len(SEQUENCES)), Passes(0, budget), count=3
    )
    for place, (row, start) in enumerate(zip(SEQUENCES, STARTS, strict=True)):
        with torch.no_grad():
            logprobs, _, values = actor_critic(collate([row], [start], 0, CPU), 1.0)
        kept = len(row) - start
        torch.testing.assert_close(found_BT[place, :kept], logprobs, **tensors(LOGPROB))
        torch.testing.assert_close(values_BT[place, :kept], values, **tensors(LOGPROB))
        assert not found_BT[place, kept:].any() and not values_BT[place, kept:].any()


def test_adapters_off_are_the_reference():
    model, reference = tiny_causal(11, width=16, layers=2).eval(), tiny_causal(11, width=16, layers=2).eval()
    lora.add_adapter(model, lora.POLICY, 4)
    with torch.no_grad():
        for weight in lora.parameters(model, lora.POLICY):
            weight.normal_(std=0.5)
        batch = collate(SEQUENCES, STARTS, 0, CPU)
        expected = Actor(reference)(batch, 0.7)[0]
        with lora.active(model, None):
            off = Actor(model)(batch, 0.7)[0]
        on = Actor(model)(batch, 0.7)[0]
    assert torch.equal(off, expected)
    assert (on - expected).abs().max() > 0.1
