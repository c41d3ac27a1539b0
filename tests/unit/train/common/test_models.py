"""Log-probabilities, values, micro-batches and updates of the real modules, against plain computation."""

import copy
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from tolerance import FIGURE, FORMULA, GRADIENT, LOGPROB, assert_weights, decimals, tensors
from train_models import tiny_causal, word_tokenizer

from constitute.config.train import PPOConfig
from constitute.engines.tokenizer import turn_ends
from constitute.errors import DataError, EngineError, GateFailed, UsageError
from constitute.train.common import rollout
from constitute.train.common.batching import Batching, collate, micro_batches, prompt_order
from constitute.train.common.metrics import preference_metrics
from constitute.train.common.models import Actor, ActorCritic, check_actor, zero_value_head
from constitute.train.common.rollout import Passes
from constitute.train.common.team import Team
from constitute.train.ppo.algorithms import ALGORITHMS
from constitute.train.ppo.experience import ScoredBatch, experience
from constitute.train.ppo.sync import named_weights
from constitute.train.ppo.update import Learner, update
from constitute.train.rewards.parts import values_of
from constitute.train.rewards.scores import final_scores
from constitute.types import Completion, Message, Prompt

CPU = torch.device("cpu")
SEQUENCES = [[1, 2, 3, 4, 5, 6, 7], [3, 1, 4], [2, 7, 1, 8], [5, 5, 5, 5, 5, 9]]
STARTS = [3, 1, 2, 5]


@pytest.fixture
def actor_critic():
    torch.manual_seed(0)
    head = zero_value_head(16)
    torch.nn.init.normal_(head.weight)
    critic = tiny_causal(11, width=16, layers=2, seed=1).base_model
    return ActorCritic(Actor(tiny_causal(11, width=16, layers=2).eval()), critic, head).eval()


def rollouts_of(sequences, starts, reward_only=False):
    prompts = [Prompt(id=str(n), messages=(Message(role="user", content="x"),)) for n in range(len(starts))]
    completions = [
        Completion(text="", token_ids=tuple(row[start:]), finish_reason="length")
        for row, start in zip(sequences, starts, strict=True)
    ]
    ids = [row[:start] for row, start in zip(sequences, starts, strict=True)]
    return rollout.gather(prompts, ids, completions, frozenset({10}), CPU)


def test_logprobs_values_and_entropy_equal_the_plain_computation(actor_critic):
    temperature = 0.7
    batch = collate(SEQUENCES, STARTS, 0, CPU)
    with torch.no_grad():
        logprobs_N, entropy_N, values_N = actor_critic(batch, temperature, entropy=True)
        place = 0
        for row, start in zip(SEQUENCES, STARTS, strict=True):
            ids = torch.tensor([row])
            logits = actor_critic.actor.model(ids).logits[0] / temperature
            states = actor_critic.critic(ids).last_hidden_state[0]
            for at in range(start, len(row)):
                spread = torch.distributions.Categorical(logits=logits[at - 1])
                assert logprobs_N[place].item() == pytest.approx(
                    spread.log_prob(torch.tensor(row[at])).item(), **LOGPROB
                )
                assert entropy_N[place].item() == pytest.approx(spread.entropy().item(), **LOGPROB)
                value = actor_critic.value_head(states[at - 1]).item()
                assert values_N[place].item() == pytest.approx(value, **LOGPROB)
                place += 1
    assert place == len(logprobs_N)


def test_left_and_right_padding_agree(actor_critic):
    width = 9
    with torch.no_grad():
        right = actor_critic(collate([SEQUENCES[1], list(range(width))], [1, 1], 0, CPU), 1.0)[0][:2]
        padding = width - len(SEQUENCES[1])
        ids = torch.tensor([[0] * padding + SEQUENCES[1]])
        mask = torch.tensor([[0] * padding + [1] * len(SEQUENCES[1])])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = actor_critic.actor.model(ids, attention_mask=mask, position_ids=positions).logits[
            0, padding:
        ]
    left = logits.log_softmax(-1)[torch.arange(2), SEQUENCES[1][1:]]
    torch.testing.assert_close(left, right, **tensors(LOGPROB))


def test_large_vocabularies_go_piece_by_piece_with_the_same_gradient(actor_critic, monkeypatch):
    from constitute.train.common import models

    batch = collate(SEQUENCES, STARTS, 0, CPU)
    whole = actor_critic.actor(batch, 1.0)[0]
    whole.sum().backward()
    gradients = [parameter.grad.clone() for parameter in actor_critic.actor.parameters()]
    actor_critic.zero_grad()
    monkeypatch.setattr(models, "_LOGIT_ELEMENTS", 22)
    pieces = actor_critic.actor(batch, 1.0)[0]
    pieces.sum().backward()
    torch.testing.assert_close(whole, pieces, **tensors(LOGPROB))
    for gradient, parameter in zip(gradients, actor_critic.actor.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, **tensors(GRADIENT))


AUTOCAST = """
import json, torch
from train_models import tiny_causal
from constitute.train.common.batching import collate
from constitute.train.common.models import Actor
actor = Actor(tiny_causal(11, width=16, layers=2).eval())
batch = collate([[1, 2, 3, token] for token in range(11)], [3] * 11, 0, torch.device("cpu"))
exact = actor(batch, 1.0)[0]
with torch.autocast("cpu", dtype=torch.bfloat16):
    found = actor(batch, 1.0, entropy=True)[0]
found.sum().backward()
finite = all(weight.grad is not None and weight.grad.isfinite().all().item() for weight in actor.parameters())
gap = (found - exact).abs().max().item()
print(json.dumps([str(found.dtype), found.exp().sum().item(), gap, finite]))
"""


def test_under_autocast_log_probabilities_are_normalised_in_fp32():
    """In a child: some processors claim bf16 products and die of them, where oneDNN is let use them."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", AUTOCAST]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    dtype, total, gap, finite = json.loads(done.stdout)
    # One row for each token of the vocabulary after the same prompt: the probabilities add up to one. In bf16
    # (eps 0.004) they would miss it by a hundredth.
    assert dtype == "torch.float32" and total == pytest.approx(1.0, **FORMULA)
    # The products themselves were in bf16: logits of size one are off by about its eps.
    assert 1e-4 < gap < 0.05 and finite


def test_micro_batches_keep_the_budget_and_every_row():
    lengths = [5, 30, 7, 30, 2, 100, 6]
    groups = micro_batches(lengths, 60)
    assert sorted(row for group in groups for row in group) == list(range(7))
    assert groups == [[5], [1, 3], [2, 6, 0, 4]]
    assert all(len(group) == 1 or len(group) * max(lengths[row] for row in group) <= 60 for group in groups)


def test_micro_batches_pad_little():
    lengths = [30 + 5 * (n % 16) for n in range(256)]
    groups = micro_batches(lengths, 8192)
    padded = sum(len(group) * lengths[group[0]] for group in groups)
    assert padded < 1.1 * sum(lengths)
    assert min(len(group) * lengths[group[0]] for group in groups[:-1]) >= 1024


def test_lengths_of_4096_rows_are_counted_once():
    counted = []

    class Row(list):
        def __len__(self):
            counted.append(self)
            return super().__len__()

    rows = [Row([1] * (1 + number % 7)) for number in range(4096)]
    rollouts = rollout.Rollouts([], [], rows, [1] * 4096, [True] * 4096, torch.ones(4096, 1))
    assert [rollouts.lengths[number] for number in range(4096)] == [1 + number % 7 for number in range(4096)]
    assert len(counted) == 4096


def test_prompts_cycle_without_repeats():
    drawn = [row for iteration in range(5) for row in prompt_order(7, 4, iteration, seed=3)]
    for lap in range(2):
        assert sorted(drawn[7 * lap : 7 * lap + 7]) == list(range(7))
    assert drawn[:7] != drawn[7:14]
    assert prompt_order(7, 7, 0, seed=0) != prompt_order(7, 7, 0, seed=1)
    assert len(prompt_order(3, 8, 2, seed=0)) == 8


def lone_team():
    """One process on the CPU."""
    return Team(SimpleNamespace(device=CPU, autocast=nullcontext), 0, 1)


def learner_of(model, rate=1e-2):
    model = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, eps=1e-5, weight_decay=0.0)
    actor = list(model.actor.parameters())
    critic = [*model.critic.parameters(), *model.value_head.parameters()]
    return Learner(model, optimizer, lone_team(), actor, critic, 0)


def experience_of(model, config, sequences=SEQUENCES, starts=STARTS):
    rollouts = rollouts_of(sequences, starts)
    (logprobs, entropy, values), _ = rollout.forward_all(
        lambda batch: model(batch, config.temperature),
        rollouts, range(len(sequences)), Passes(0, config.microbatch_tokens), count=3,
    )  # fmt: skip
    scores = torch.arange(float(len(sequences)))
    reference = logprobs - 0.1
    return experience(
        ScoredBatch(ALGORITHMS["gae"], rollouts, scores, logprobs, entropy, values, reference, 0.05, config)
    )


@pytest.mark.parametrize("budget", [7, 14, 1000])
def test_micro_batching_does_not_change_the_update(actor_critic, budget):
    small, large = (PPOConfig(epochs=2, microbatch_tokens=tokens) for tokens in (budget, 10_000))
    learned = experience_of(actor_critic, large)
    pieces, whole = learner_of(actor_critic), learner_of(actor_critic)
    found, expected = update(pieces, learned, small, 0).means(), update(whole, learned, large, 0).means()
    assert found == pytest.approx(expected, **FIGURE)
    assert_weights(pieces.model.parameters(), whole.model.parameters(), rate=1e-2, steps=2)


def test_first_pass_starts_at_ratio_one(actor_critic):
    config = PPOConfig(microbatch_tokens=14, temperature=0.7)
    figures = update(learner_of(actor_critic), experience_of(actor_critic, config), config, 0).means()
    assert figures["first_ratio_error"] == 0.0 and figures["first_approx_kl"] == 0.0
    assert figures["approx_kl"] > 0.0


def test_updates_stop_at_the_target_kl(actor_critic):
    config = PPOConfig(epochs=4, target_kl=1e-6)
    stats = update(learner_of(actor_critic), experience_of(actor_critic, config), config, 0)
    assert stats.stopped_early and stats.updates == 1


def test_a_loss_that_is_not_finite_stops_and_leaves_the_weights(actor_critic):
    config = PPOConfig(epochs=1)
    learned = experience_of(actor_critic, config)
    learned.returns_BT[0, 0] = float("nan")
    learner = learner_of(actor_critic)
    with pytest.raises(GateFailed, match=r"no longer finite; lower train\.ppo\.learning_rate"):
        update(learner, learned, config, 0)
    for one, other in zip(learner.model.parameters(), actor_critic.parameters(), strict=True):
        assert torch.equal(one, other)


def test_cut_off_responses_score_the_penalty():
    assert final_scores([2.0, 3.0], [True, False], PPOConfig(missing_eos_penalty=1.0)) == [2.0, -1.0]
    assert final_scores([2.0, 3.0], [True, False], PPOConfig(missing_eos_penalty=None)) == [2.0, 3.0]


def test_rewards_must_be_finite_and_as_many_as_responses():
    rollouts = rollouts_of(SEQUENCES, STARTS)
    with pytest.raises(DataError, match="reward of the response to prompt '1' is nan"):
        values_of(lambda p, c: [0.0, float("nan"), 0.0, 0.0], "reward", rollouts, Batching(0, 100))
    with pytest.raises(DataError, match="returned 1 rewards for 4 responses"):
        values_of(lambda p, c: [0.0], "reward", rollouts, Batching(0, 100))


def test_a_stop_that_is_no_end_token_is_refused():
    prompt = Prompt(id="p", messages=(Message(role="user", content="x"),))
    with pytest.raises(EngineError, match="none of the model's end tokens"):
        rollout.gather([prompt], [[1]], [Completion(text="", token_ids=(4, 5))], frozenset({10}), CPU)


def test_weights_are_named_as_in_a_checkpoint():
    model = tiny_causal(11, width=16)
    named = dict(named_weights(model))
    assert set(named) == set(model.state_dict())
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(named_weights(model))


def test_an_unknown_logit_map_is_refused():
    model = tiny_causal(11, width=16)
    check_actor(Actor(model), "tiny")
    model.lm_head.register_forward_hook(lambda module, args, output: output)
    actor = Actor(model)
    actor._map = lambda logits: logits * 1.5
    with pytest.raises(UsageError, match="LlamaForCausalLM"):
        check_actor(actor, "tiny")


def test_preference_metrics_by_hand():
    figures = preference_metrics([1.0, -1.0, 2.0, 0.5], [0.9, 0.8, 0.5, 0.2], seed=0)
    assert (figures["accuracy"].value, figures["accuracy"].n) == (pytest.approx(1 / 3), 3)
    assert figures["margin"].value == pytest.approx((1 - 1 + 2 - 0.5) / 4)
    nll = (0.413262, 1.113262, 1.126928, 0.874077)
    assert figures["nll"].value == pytest.approx(sum(nll) / 4, **decimals(6))
    brier = [(0.731059 - 0.9) ** 2, (0.268941 - 0.8) ** 2, (0.880797 - 0.5) ** 2, (0.622459 - 0.2) ** 2]
    assert figures["brier"].value == pytest.approx(sum(brier) / 4, **decimals(6))
    assert preference_metrics([], [], seed=0) == {}


def test_a_turn_ends_at_every_id_that_a_model_says(tmp_path):
    """By tokenizer, configuration or generation configuration: rollouts end at any of them."""
    tokenizer = word_tokenizer(["0", "1", "</s>", "<end>", "<stop>"], eos="</s>", pad="0")
    tokenizer.save_pretrained(tmp_path)
    model = tiny_causal(vocab=len(tokenizer), width=16, eos=2)
    model.generation_config.eos_token_id = [2, 3]
    model.save_pretrained(tmp_path)
    assert turn_ends(str(tmp_path), tokenizer) == {2, 3}
    model.config.eos_token_id = 4
    model.config.save_pretrained(tmp_path)
    assert turn_ends(str(tmp_path), tokenizer) == {2, 3, 4}
    (tmp_path / "generation_config.json").unlink()
    assert turn_ends(str(tmp_path), tokenizer) == {2, 4}
