"""A prompt passed once for all of its samples gives what whole sequences give, in fewer operations."""

import random
from functools import partial

import pytest
import torch
from tolerance import GRADIENT, LOGPROB, tensors
from torch.utils.flop_counter import FlopCounterMode
from train_models import tiny_causal
from unit.train.common.test_models import CPU, lone_team, rollouts_of

from constitute.config.train import PPOConfig
from constitute.train.common import rollout
from constitute.train.common.batching import collate, micro_batches
from constitute.train.common.models import Actor, ActorCritic, hidden_states, zero_value_head
from constitute.train.common.rollout import Before, Passes
from constitute.train.common.shared import can_share, collate_shared, cut_groups, gain
from constitute.train.ppo.algorithms import ALGORITHMS
from constitute.train.ppo.experience import ScoredBatch, experience
from constitute.train.ppo.forward import _measured
from constitute.train.ppo.update import update

SAMPLES = 4


def rows_of(seed=0, prompts=(3, 7, 5), longest=9):
    """Sequences in groups of `SAMPLES` on one prompt, and where their responses start."""
    rng = random.Random(seed)
    sequences, starts = [], []
    for length in prompts:
        prompt = [rng.randrange(3, 11) for _ in range(length)]
        for _ in range(SAMPLES):
            sequences.append([*prompt, *(rng.randrange(3, 11) for _ in range(rng.randint(1, longest)))])
            starts.append(length)
    return sequences, starts


@pytest.fixture
def model():
    return tiny_causal(11, width=32, layers=2).eval()


@pytest.mark.parametrize("budget", [8, 64, 10_000])
def test_states_and_gradients_are_those_of_whole_sequences(model, budget):
    sequences, starts = rows_of()
    actor, found = Actor(model), []
    for batch in (
        collate(sequences, starts, 0, CPU),
        collate_shared(sequences, starts, 0, CPU, budget),
    ):
        model.zero_grad()
        logprobs_N, entropy_N = actor(batch, 0.7, entropy=True)
        (logprobs_N * torch.linspace(-1.0, 2.0, len(logprobs_N))).sum().backward()
        last_BD = hidden_states(model.base_model, batch)[batch.last_B].detach()
        grads = [weight.grad.clone() for weight in model.parameters()]
        found.append((logprobs_N.detach(), entropy_N, last_BD, grads))
    (logprobs, entropy, last, grads), shared = found
    torch.testing.assert_close(shared[0], logprobs, **tensors(LOGPROB))
    torch.testing.assert_close(shared[1], entropy, **tensors(LOGPROB))
    torch.testing.assert_close(shared[2], last, **tensors(GRADIENT))
    for ours, theirs in zip(shared[3], grads, strict=True):
        torch.testing.assert_close(ours, theirs, **tensors(GRADIENT))


def test_the_gain_is_counted_in_tokens():
    """Two prompts of 4 tokens, two responses of 2 to each: 24 tokens, of which 8 need no pass."""
    first, second = [1, 2, 3, 4], [5, 6, 7, 8]
    sequences = [[*first, 3, 3], [*first, 4, 4], [*second, 3, 3], [*second, 4, 4]]
    assert gain(rollouts_of(sequences, [4] * 4)) == pytest.approx(8 / 24)


def test_a_group_is_torn_only_where_it_passes_the_budget():
    """Prompts of 3, 7 and 5 tokens with 4 responses each."""
    sequences, starts = rows_of()
    rollouts = rollouts_of(sequences, starts)
    pieces = cut_groups(rollouts, range(len(sequences)), 10_000, micro_batches)
    assert len(pieces) == 1 and sorted(pieces[0]) == list(range(12))
    for piece in cut_groups(rollouts, range(len(sequences)), 20, micro_batches):
        (prompt,) = {row // SAMPLES for row in piece}
        own = sum(len(sequences[row]) - starts[row] for row in piece)
        assert own + starts[SAMPLES * prompt] <= 20
    hands = [Passes(0, 64, share_prompts=True).hand(rollouts, range(12), 2, rank) for rank in (0, 1)]
    assert sorted(hands[0] + hands[1]) == list(range(12))
    assert not {row // SAMPLES for row in hands[0]} & {row // SAMPLES for row in hands[1]}


def test_sliding_attention_is_not_shared(model):
    assert can_share(model)
    model.config.layer_types = ["sliding_attention", "full_attention"]
    assert not can_share(model)


def actor_critic():
    actor = Actor(tiny_causal(11, width=32, layers=2).eval())
    return ActorCritic(actor, tiny_causal(11, width=32, layers=2, seed=1).base_model, zero_value_head(32))


def learned_by(passes, config, name="gae", prompts=(3, 7, 5)):
    """The weights after an update, the operations that the passes and the update took, and its figures."""
    model, (sequences, starts) = actor_critic(), rows_of(prompts=prompts)
    if not ALGORITHMS[name].needs_critic:
        model = ActorCritic(model.actor, None, None)
        model.critic = model.value_head = None
    learner = _learner(model)
    rollouts, rows = rollouts_of(sequences, starts), range(len(sequences))
    with FlopCounterMode(display=False) as counter:
        found, kept = rollout.forward_all(
            partial(_measured, learner.model, config, config.old_logprobs == "engine"),
            rollouts, rows, passes, count=3, keep=True,
        )  # fmt: skip
        scores = torch.arange(float(len(sequences)))
        batch = ScoredBatch(ALGORITHMS[name], rollouts, scores, *found, found[0] - 0.1, 0.05, config)
        figures = update(learner, experience(batch), config, 0, Before(passes, kept)).means()
    return (
        [weight.detach().clone() for weight in learner.model.parameters()],
        counter.get_total_flops(),
        figures,
    )


def _learner(model):
    from constitute.train.ppo.update import Learner

    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    critic = [] if model.critic is None else [*model.critic.parameters(), *model.value_head.parameters()]
    return Learner(model, optimizer, lone_team(), list(model.actor.parameters()), critic, 0)


@pytest.mark.parametrize("name", ["gae", "rloo"])
def test_an_update_learns_the_same_in_fewer_operations(name):
    config = PPOConfig(epochs=2, samples_per_prompt=SAMPLES, batch_size=12, max_grad_norm=1e9)
    prompts = (30, 28, 31)
    whole, flops, expected = learned_by(Passes(0, 80), config, name, prompts)
    shared, fewer, found = learned_by(Passes(0, 80, share_prompts=True), config, name, prompts)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for ours, theirs in zip(shared, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    spared = gain(rollouts_of(*rows_of(prompts=prompts)))
    assert spared > 0.6 and fewer / flops == pytest.approx(1.0 - spared, abs=0.1)


def test_kept_graphs_spare_the_forwards_of_the_first_epoch():
    """With every graph kept, an epoch costs one forward and one backward: 3/4 of what it costs without."""
    config = PPOConfig(epochs=1, samples_per_prompt=1, batch_size=12, max_grad_norm=1e9)
    weights, flops = [], []
    for passes in (Passes(0, 20), Passes(0, 20, keep_tokens=40), Passes(0, 20, keep_tokens=10_000)):
        after, count, figures = learned_by(passes, config)
        weights.append(after)
        flops.append(count)
        assert figures["first_ratio_error"] == pytest.approx(0.0, abs=1e-6)
    assert flops[2] < flops[1] < flops[0]
    assert flops[2] / flops[0] == pytest.approx(0.78, abs=0.03)
    for other in weights[1:]:
        for ours, theirs in zip(other, weights[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_engines_log_probabilities_keep_the_graphs_too():
    """The critic's values are needed before the update; with its graph the actor's is kept."""
    base = {"epochs": 1, "batch_size": 12, "max_grad_norm": 1e9}
    trainer, engine = PPOConfig(**base), PPOConfig(**base, old_logprobs="engine")
    counts = {}
    for name, config in (("trainer", trainer), ("engine", engine)):
        for kept in (0, 10_000):
            counts[name, kept] = learned_by(Passes(0, 20, keep_tokens=kept), config)[1]
    assert counts["engine", 0] < counts["trainer", 0]
    assert counts["engine", 10_000] == counts["trainer", 10_000]
