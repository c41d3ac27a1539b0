"""The floor of a training: counted by hand, and below what a real update computes."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from train_models import tiny_causal
from unit.train.common.test_models import CPU, rollouts_of
from unit.train.common.test_shared import learned_by, rows_of

from benchmarks.train.floor import Group, Shape, Work, pass_products, shape_of, update_flops
from constitute.config.train import PPOConfig
from constitute.train.common.batching import collate
from constitute.train.common.models import Actor
from constitute.train.common.rollout import Passes

# One layer: keys and values 2 x 4 x 2 = 16 weights, the rest 2 x 4 x 4 + 3 x 4 x 8 = 128.
ONE = Shape(layers=1, width=4, queries=4, keys=2, inner=8, vocabulary=10)


def test_one_layer_by_hand():
    """A prompt of 3 tokens and one response of 2: 4 inputs, of which the last two predict.

    Keys and values of 4 tokens: 64. The rest of the layer at 2 states: 256. Attention of the last prompt
    token over 3 and of the first response token over 4 tokens, twice 4 each: 56. Output: 2 x 4 x 10 = 80.
    """
    assert pass_products(ONE, Group(3, (2,)), head=10) == 64 + 256 + 56 + 80


def test_a_score_reads_one_state_of_each_response():
    """5 inputs: keys and values 80, the rest at one state 128, attention over 5 tokens 40, output 4."""
    assert pass_products(ONE, Group(3, (2,)), head=1, scored=True) == 80 + 128 + 40 + 4


def test_a_second_layer_computes_every_state():
    """The first of two layers: 4 x 144 = 576 in products, and 10 pairs of tokens at 8 each."""
    two = ONE._replace(layers=2)
    assert pass_products(two, Group(3, (2,)), head=10) == 64 + 256 + 56 + 80 + 576 + 80


def test_samples_share_their_prompt():
    """A second response of 2 tokens adds one input: 16 + 128 weights, 4 pairs, one output."""
    alone, shared = (pass_products(ONE, Group(3, (2,) * n), head=10) for n in (1, 2))
    assert shared - alone == 16 + 128 + 4 * 8 + 40


def test_an_update_is_its_passes():
    groups = [Group(3, (2,))]
    policy, values, score = 456, 64 + 256 + 56 + 8, 252
    assert (
        update_flops(ONE, groups, Work(4, "separate")) == 24 * policy + 24 * values + 2 * policy + 2 * score
    )
    assert update_flops(ONE, groups, Work(1, "shared", reward_model=False)) == 8 * policy
    assert update_flops(ONE, groups, Work(1, reference=False, reward_model=False)) == 6 * policy


def groups_here(prompts):
    sequences, starts = rows_of(prompts=prompts)
    rollouts = rollouts_of(sequences, starts)
    return [
        Group(length, tuple(rollouts.lengths[4 * at + place] - length for place in range(4)))
        for at, length in enumerate(prompts)
    ]


@pytest.fixture
def counted_attention():
    """Attention in products that torch counts; it knows nothing of the kernel that a CPU takes."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.mark.usefixtures("counted_attention")
@pytest.mark.parametrize(("name", "critic"), [("gae", "separate"), ("rloo", "")])
def test_no_real_update_computes_less(name, critic):
    """Counted by torch: the passes before the update, and one epoch, with every graph kept."""
    config = PPOConfig(epochs=1, samples_per_prompt=4, batch_size=12, max_grad_norm=1e9)
    shape = shape_of(tiny_causal(11, width=32, layers=2).config)
    prompts = (30, 28, 31)
    work = Work(1, critic, reference=False, reward_model=False)
    least = update_flops(shape, groups_here(prompts), work)
    _, best, _ = learned_by(Passes(0, 10_000, share_prompts=True, keep_tokens=10_000), config, name, prompts)
    _, whole, _ = learned_by(Passes(0, 10_000), config, name, prompts)
    assert least < best < whole
    # Little is needed of the last layer, which is half of this model, and torch counts whole squares.
    assert best < 3.0 * least


@pytest.mark.usefixtures("counted_attention")
def test_a_whole_forward_is_near_its_count():
    """Eight layers of one long row: torch counts the whole square of attention, half of which is needed."""
    model = tiny_causal(64, width=64, layers=8, heads=4, positions=256)
    actor, row = Actor(model), [place % 60 for place in range(200)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        actor(collate([row], [10], 0, CPU), 1.0)
    shape, group = shape_of(model.config), Group(10, (190,))
    needed = 2 * pass_products(shape, group, head=64)
    above = 8 * 4 * 64 * (199 * 199 - 199 * 200 / 2)
    assert 1.0 < (counter.get_total_flops() - above) / needed < 1.02
