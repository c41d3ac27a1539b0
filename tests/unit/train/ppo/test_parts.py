"""Advantages, rewards, adapters and the dealing of rows, by hand."""

import pytest
import torch
from pydantic import ValidationError
from tolerance import FORMULA, LOGPROB, decimals, tensors
from train_models import tiny_causal

from constitute.config import load_config
from constitute.config.train import PPOConfig
from constitute.errors import DataError, RunMismatch, UsageError
from constitute.train.common import lora, losses
from constitute.train.common.batching import collate
from constitute.train.common.checkpoint import last_checkpoint, save_checkpoint
from constitute.train.common.models import Actor
from constitute.train.common.team import deal
from constitute.train.ppo.sync import named_weights
from constitute.train.rewards.parts import RewardPart, as_parts
from constitute.train.rewards.scores import final_scores


def test_importance_weights_by_hand():
    ours, theirs = torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([-1.0, -1.5, -3.0])
    weights = losses.importance_weights(ours, theirs, 2.0)
    assert weights.tolist() == pytest.approx([1.0, 1.6487212, 2.0], **FORMULA)


def test_scores_are_normalised_then_cut_then_penalised():
    values, ended = [1.0, 2.0, 6.0], [True, True, False]
    assert final_scores(values, ended, PPOConfig(missing_eos_penalty=None, score_clip=1.5)) == [1.0, 1.5, 1.5]
    # Mean 3, deviation sqrt(14 / 3) = 2.1602.
    normed = final_scores(values, ended, PPOConfig(missing_eos_penalty=None, score_norm="batch"))
    assert normed == pytest.approx([-0.9258, -0.4629, 1.3887], **decimals(4))
    assert final_scores(values, ended, PPOConfig(score_norm="batch", score_clip=0.5))[2] == -1.0


@pytest.mark.parametrize(
    "parts", [[RewardPart("a", "x"), RewardPart("a", "y")], [RewardPart("a", "x", 0.0)], []]
)
def test_rewards_without_name_or_weight_are_refused(parts):
    with pytest.raises(DataError, match="distinct names and one weight"):
        as_parts(parts)


def test_rows_are_dealt_evenly_and_each_once():
    lengths = [9, 1, 8, 2, 7, 3, 6]
    hands = deal(lengths, 2)
    assert sorted(row for hand in hands for row in hand) == list(range(7))
    totals = [sum(lengths[row] for row in hand) for hand in hands]
    assert abs(totals[0] - totals[1]) <= 3
    assert deal([5], 2) == [[0], []]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kl_coef": 0.0, "kl_target": 6.0}, "set kl_coef above 0"),
        ({"samples_per_prompt": 3}, "no multiple"),
        ({"critic": "lora"}, "set lora_rank"),
        ({"critic": "lora", "lora_rank": 4, "gradient_checkpointing": True}, "gradient_checkpointing=false"),
        ({"old_logprobs": "engine", "temperature": 0.7}, "temperature=1"),
        ({"importance_cap": 2.0, "old_logprobs": "engine"}, "remove importance_cap"),
        ({"ptx_coef": 1.0}, "set ptx_data"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        PPOConfig(**settings)


def test_adapters_switch_off_to_the_reference_and_merge_to_the_policy():
    model, reference = tiny_causal(11, width=16, layers=2), tiny_causal(11, width=16, layers=2)
    for name in (lora.POLICY, lora.CRITIC):
        lora.add_adapter(model, name, 4)
    generator = torch.Generator().manual_seed(1)
    for weight in [*lora.parameters(model, lora.POLICY), *lora.parameters(model, lora.CRITIC)]:
        weight.data.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    batch = collate([[1, 2, 3, 4], [5, 6, 7]], [2, 1], 0, torch.device("cpu"))
    with torch.no_grad():
        expected, _ = Actor(reference)(batch, 1.0)
        adapted, _ = Actor(model)(batch, 1.0)
        with lora.active(model, None):
            off, _ = Actor(model)(batch, 1.0)
        reference.load_state_dict(dict(named_weights(model)))
        merged, _ = Actor(reference)(batch, 1.0)
    assert torch.equal(off, expected)
    assert (adapted - expected).abs().max() > 0.05
    torch.testing.assert_close(merged, adapted, **tensors(LOGPROB))


def test_each_adapter_gets_its_own_gradient():
    model = tiny_causal(11, width=16, layers=1)
    for name in (lora.POLICY, lora.CRITIC):
        lora.add_adapter(model, name, 4)
    actor = Actor(model)
    batch = collate([[1, 2, 3, 4]], [2], 0, torch.device("cpu"))
    policy_states = actor.trunk_states(batch)
    with lora.active(model, lora.CRITIC):
        critic_states = actor.trunk_states(batch)
    (policy_states.sum() + 2 * critic_states.sum()).backward()

    def moved(name):
        return any(w.grad is not None and w.grad.abs().sum() > 0 for w in lora.parameters(model, name))

    assert moved(lora.POLICY) and moved(lora.CRITIC)
    base = [w for name, w in model.named_parameters() if ".lora_" not in name]
    assert all(weight.grad is None for weight in base)


def test_a_mended_reward_function_goes_on_and_another_one_does_not(tmp_path):
    model = tiny_causal(5, width=16)
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1.0)

    def made(identity):
        return {"kind": "ppo", "config": {}, "seed": 0, "inputs": {"reward/r": f"1*{identity}"}}

    old = made("mine:r#0123456789abcdef")
    save_checkpoint(tmp_path / "checkpoints", 3, model, optimizer, scheduler, {"made_by": old})
    found = last_checkpoint(tmp_path / "checkpoints", made("mine:r#fedcba9876543210"))
    assert found is not None and found.name == "iteration-000003"
    with pytest.raises(RunMismatch, match="reward/r"):
        last_checkpoint(tmp_path / "checkpoints", made("mine:s#fedcba9876543210"))


def test_one_tracker_may_be_named_alone():
    assert PPOConfig(report_to="wandb").report_to == ("wandb",)


def test_contradicting_settings_are_told_without_a_dump(tmp_path):
    with pytest.raises(UsageError) as told:
        load_config(None, ("train.ppo.ptx_coef=1",))
    assert str(told.value) == "train.ppo: ptx_coef needs conversations; set ptx_data to a file of them"


def test_a_checkpoint_that_a_kill_tore_is_removed_by_the_next(tmp_path):
    model = tiny_causal(5, width=16)
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1.0)
    torn = tmp_path / "checkpoints" / ".iteration-000002.0123456789abcdef.tmp"
    torn.mkdir(parents=True)
    (torn / "model.safetensors").write_bytes(b"half")
    save_checkpoint(tmp_path / "checkpoints", 2, model, optimizer, scheduler, {"made_by": {}})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["iteration-000002"]
