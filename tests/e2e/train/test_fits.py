"""What saves memory and disk, through the trainers: adapters, optimizers and saved types."""

import json

import pytest
import torch
from click.testing import CliRunner
from e2e.train.sharded_child import END, PPO, CausalRollouts, ones, prepare
from safetensors.torch import load_file
from tiny_models import random_experts
from transformers import AutoModelForSequenceClassification

from constitute.cli.main import cli
from constitute.config.train import DPOConfig, Footprint, PPOConfig, SFTConfig
from constitute.errors import RunMismatch
from constitute.progress import Silent
from constitute.train.common import lora
from constitute.train.dpo import train_dpo
from constitute.train.ppo import run as ppo
from constitute.train.sft import train_sft
from constitute.types import Message, Prompt

PAIRS = ("epochs=6", "batch_size=4", "learning_rate=0.01", "held_out=0", "warmup=0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("fits")
    prepare(place)
    return place


def train(folder, kind, out, *settings):
    """`constitute train KIND` on the pairs, and the folder it wrote."""
    words = ["train", kind, "--model", str(folder / "start"), "--data", str(folder / "pairs.jsonl")]
    words += ["--out", str(folder / out), "--run", str(folder / "run"), "--json", "--force"]
    words += [word for text in settings for word in ("--set", text)]
    done = CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / out


def sides(folder):
    """Token ids of both answers of each pair: the template writes words and an end."""
    words = {"0": 0, "1": 1}
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    return [
        [words[word] for word in f"{row['prompt']} {row[side]}".split()] + [END]
        for row in rows
        for side in ("chosen", "rejected")
    ]


def test_a_reward_model_of_adapters_is_saved_merged(folder):
    settings = [f"train.reward.{text}" for text in (*PAIRS, "lora_rank=2")]
    out = train(folder, "reward", "reward_lora", *settings, "train.optimizer=adamw_offload")
    before, after = (load_file(place / "model.safetensors") for place in (folder / "start", out))
    assert not any("lora" in name or "base_layer" in name for name in after)
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.linalg.matrix_rank(after[name] - before[name], tol=1e-5) == 2
    # Mean and deviation were taken with the adapters apart: merged, the model must score alike.
    network = AutoModelForSequenceClassification.from_pretrained(out).eval()
    with torch.no_grad():
        scores = torch.stack([network(torch.tensor([side])).logits[0, 0] for side in sides(folder)])
    assert network.config.mean == pytest.approx(scores.mean().item(), abs=1e-5)
    assert network.config.std == pytest.approx(scores.std(correction=0).item(), rel=1e-4)
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.05


def test_moments_on_the_cpu_train_the_same_model(folder):
    settings = [f"train.dpo.{text}" for text in (*PAIRS, "beta=1")]
    plain = load_file(train(folder, "dpo", "dpo", *settings) / "model.safetensors")
    offloaded = train(folder, "dpo", "dpo_offload", *settings, "train.optimizer=adamw_offload")
    assert all(
        torch.equal(plain[name], tensor)
        for name, tensor in load_file(offloaded / "model.safetensors").items()
    )
    # The same recipe: what was trained with one is found finished with the other.
    again = train(folder, "dpo", "dpo", *settings, "train.optimizer=adamw_offload")
    assert torch.equal(load_file(again / "model.safetensors")["lm_head.weight"], plain["lm_head.weight"])
    with pytest.raises(RunMismatch, match="save_dtype"):
        train(folder, "dpo", "dpo", *settings, "train.save_dtype=bfloat16")


def test_sft_takes_every_optimizer_and_type(folder):
    config = SFTConfig(epochs=3, batch_size=1, learning_rate=1e-2)
    found = {}
    for name, footprint in (
        ("plain", Footprint()),
        ("offload", Footprint(optimizer="adamw_offload")),
        ("half", Footprint(save_dtype="bfloat16")),
    ):
        out = folder / f"sft_{name}"
        train_sft(
            folder / "chats.jsonl", str(folder / "start"), out, config, seed=0, progress=Silent(),
            footprint=footprint,
        )  # fmt: skip
        found[name] = load_file(out / "model.safetensors")
    start = load_file(folder / "start" / "model.safetensors")
    for name, weight in found["plain"].items():
        assert torch.equal(found["offload"][name], weight) and not torch.equal(start[name], weight), name
        assert torch.equal(found["half"][name], weight.to(torch.bfloat16)), name


def test_a_separate_critic_has_adapters_and_the_policy_is_saved_as_asked(folder):
    kept = []

    def set_up(*arguments):
        kept.append(original(*arguments))
        return kept[0]

    original, ppo.set_up = ppo.set_up, set_up
    prompt = Prompt(id="only", messages=(Message(role="user", content="x"),))
    config = PPOConfig(**PPO | {"iterations": 2, "lora_rank": 2, "checkpoint_every": 1})
    out = folder / "ppo"
    try:
        ppo.train_ppo(
            [prompt], [[END]], str(folder / "start"), ones, out, config, seed=0, progress=Silent(),
            engine=CausalRollouts(folder / "start", {END}), footprint=Footprint(save_dtype="bfloat16"),
        )  # fmt: skip
    finally:
        ppo.set_up = original
    model = kept[0].learner.model
    own = {id(weight) for weight in lora.parameters(model.critic, lora.CRITIC)}
    assert own and {id(weight) for weight in kept[0].learner.critic_parameters} == own | {
        id(weight) for weight in model.value_head.parameters()
    }
    moved = [weight for weight in lora.parameters(model.critic, lora.CRITIC) if weight.abs().sum() > 0]
    assert len(moved) == len(own)
    for place in (out, out / "checkpoints" / "iteration-000002" / "policy"):
        saved = load_file(place / "model.safetensors")
        assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
        assert json.loads((place / "config.json").read_text())["dtype"] == "bfloat16"


def test_every_weight_of_a_mixture_of_experts_learns_and_is_saved(tmp_path):
    folder = random_experts(tmp_path / "experts")
    rows = [{"prompt": f"Is {n} prime?", "chosen": "Yes", "rejected": "why?"} for n in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = DPOConfig(epochs=1, batch_size=4, learning_rate=1e-2, held_out=0.0, warmup=0.0)
    train_dpo(
        tmp_path / "pairs.jsonl", str(folder), tmp_path / "out", config, seed=0, progress=Silent(),
        footprint=Footprint(save_dtype="bfloat16"),
    )  # fmt: skip
    before, after = (load_file(place / "model.safetensors") for place in (folder, tmp_path / "out"))
    assert before.keys() == after.keys() and any("experts" in name for name in before)
    changed = {name for name in before if not torch.equal(before[name].to(torch.bfloat16), after[name])}
    assert {"experts" in name for name in changed} == {True, False}
