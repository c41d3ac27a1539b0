"""SFT and reward-model training on a tiny model: the numbers they must reach."""

import json
import math
import random

import pytest
import torch
from tiny_models import chatml_tokenizer
from tolerance import FIGURE, LOGPROB
from train_models import tiny_causal
from transformers import AutoModelForSequenceClassification

from constitute.config.train import RewardConfig, SFTConfig
from constitute.engines.render import Renderer
from constitute.errors import RunMismatch, UsageError
from constitute.progress import Silent
from constitute.train.common.batching import Batching
from constitute.train.reward.model import RewardModel
from constitute.train.reward.train import train_reward
from constitute.train.sft import train_sft


class Lines(Silent):
    """Keeps what a trainer reports."""

    def __init__(self):
        self.seen = []

    def start(self, stage, total=None, done=0):
        self.seen.append((stage, total))

    def advance(self, stage, status="ok", **figures):
        self.seen.append(figures)


quiet = Silent()


@pytest.fixture
def model(tmp_path):
    tokenizer = chatml_tokenizer()
    folder = tmp_path / "model"
    tiny_causal(len(tokenizer), width=32, eos=tokenizer.eos_token_id, positions=256).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def test_sft_learns_a_coin_to_its_entropy(tmp_path, model):
    # Two answers of one token and an end each, equally often: the best loss is ln 2 / 2 per token.
    assert len(Renderer(chatml_tokenizer(), "tiny").answer_ids([user("rice")], "A")) == 2
    rows = [{"messages": [user("rice"), assistant("AB"[n % 2])]} for n in range(64)]
    data = write(tmp_path / "sft.jsonl", rows)
    config = SFTConfig(epochs=20, learning_rate=1e-2, batch_size=32, device_batch_size=32)
    lines = Lines()
    summary = train_sft(data, str(model), tmp_path / "out", config, seed=0, progress=lines)
    assert summary["rows"] == 64 and summary["rows_too_long"] == 0 and summary["steps"] == 40
    assert summary["loss_first"] > 4.0
    assert summary["loss_last"] == pytest.approx(math.log(2) / 2, abs=0.05)
    assert lines.seen[0] == ("train sft", 40) and len(lines.seen) == 41


def test_sft_folder_loads_and_says_what_made_it(tmp_path, model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Two files add up.
    data = [
        write(tmp_path / f"{name}.jsonl", [{"prompt": "Is 7 prime?", "completion": "Yes"}] * rows)
        for name, rows in (("one", 1), ("other", 3))
    ]
    out = tmp_path / "out"
    config = SFTConfig(epochs=1, batch_size=4)
    first = train_sft(data, str(model), out, config, seed=0, progress=quiet)
    assert first["rows"] == 4
    assert AutoModelForCausalLM.from_pretrained(out).config.vocab_size == len(
        AutoTokenizer.from_pretrained(out)
    )
    card = (out / "README.md").read_text()
    assert "learning_rate" in card and "seed" in card and "torch" in card
    # The same command again finds its work done; another recipe is refused.
    assert train_sft(data, str(model), out, config, seed=0, progress=quiet) == first
    with pytest.raises(RunMismatch, match="seed"):
        train_sft(data, str(model), out, config, seed=1, progress=quiet)


def test_lora_is_merged_into_a_plain_folder(tmp_path, model):
    from transformers import AutoModelForCausalLM

    data = write(tmp_path / "sft.jsonl", [{"prompt": "Is 7 prime?", "completion": "Yes"}] * 8)
    config = SFTConfig(epochs=30, batch_size=8, lora_rank=4, learning_rate=3e-2)
    summary = train_sft(data, str(model), tmp_path / "out", config, seed=0, progress=quiet)
    assert summary["loss_last"] < summary["loss_first"] - 0.5
    old = AutoModelForCausalLM.from_pretrained(model).state_dict()
    new = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert old.keys() == new.keys()
    assert torch.equal(old["model.embed_tokens.weight"], new["model.embed_tokens.weight"])
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.linalg.matrix_rank(new[name] - old[name], tol=1e-4) == 4


def test_long_rows_are_left_out_and_counted(tmp_path, model):
    rows = [{"prompt": "Is 7 prime?", "completion": "Yes"}] * 3
    rows.append({"prompt": "Is 7 prime? " * 50, "completion": "Yes"})
    data = write(tmp_path / "sft.jsonl", rows)
    config = SFTConfig(epochs=1, batch_size=3, max_length=64)
    summary = train_sft(data, str(model), tmp_path / "out", config, seed=0, progress=quiet)
    assert (summary["rows"], summary["rows_too_long"]) == (3, 1)


def pair(prompt, prob):
    return {
        "prompt": [user(prompt)], "chosen": [assistant("Yes")], "rejected": [assistant("why?")],
        "chosen_prob": prob,
    }  # fmt: skip


def test_reward_margin_converges_to_the_logit_of_the_label(tmp_path, model):
    data = write(tmp_path / "pairs.jsonl", [pair("Is 7 prime?", 0.7)] * 8)
    config = RewardConfig(epochs=80, learning_rate=5e-3, batch_size=8, held_out=0.0, warmup=0.0)
    out = tmp_path / "out"
    summary = train_reward(data, str(model), out, config, seed=0, progress=quiet)
    # At the optimum the loss is the entropy of the label.
    assert summary["loss_last"] == pytest.approx(-0.7 * math.log(0.7) - 0.3 * math.log(0.3), abs=1e-3)
    network = AutoModelForSequenceClassification.from_pretrained(out)
    renderer, asked = Renderer(chatml_tokenizer(), "tiny"), [user("Is 7 prime?")]
    sides = [renderer.prompt_ids(asked) + renderer.answer_ids(asked, text) for text in ("Yes", "why?")]
    with torch.no_grad():
        scores = [network(torch.tensor([side])).logits.item() for side in sides]
    assert scores[0] - scores[1] == pytest.approx(math.log(0.7 / 0.3), abs=0.03)
    # Both answers equally often: mean and deviation of the raw score follow from the two.
    assert network.config.mean == pytest.approx(sum(scores) / 2, **LOGPROB)
    assert network.config.std == pytest.approx((scores[0] - scores[1]) / 2, **LOGPROB)


def test_reward_is_evaluated_on_prompts_it_has_not_seen(tmp_path, model):
    rows = [pair(f"Is {n} prime?", 0.9) for n in range(40)]
    data = write(tmp_path / "pairs.jsonl", rows)
    config = RewardConfig(epochs=4, learning_rate=5e-3, batch_size=6, held_out=0.25)
    summary = train_reward(data, str(model), tmp_path / "out", config, seed=0, progress=quiet)
    assert (summary["pairs"], summary["pairs_held_out"]) == (30, 10)
    held_out = summary["held_out"]
    assert held_out["accuracy"]["value"] == 1.0 and held_out["accuracy"]["n"] == 10
    assert held_out["accuracy"]["low"] == pytest.approx(0.7225, abs=1e-3)
    assert held_out["nll"]["value"] < 0.4 and held_out["margin"]["value"] > 1.0


def scores_of(folder, rows):
    """The configuration, and raw scores of (chosen, rejected) of each row by transformers' own forward."""
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    renderer = Renderer(chatml_tokenizer(), "tiny")
    found = []
    for row in rows:
        sides = [
            renderer.prompt_ids(row["prompt"]) + renderer.answer_ids(row["prompt"], row[name][0]["content"])
            for name in ("chosen", "rejected")
        ]
        with torch.no_grad():
            found.append([network(torch.tensor([side])).logits[0] for side in sides])
    return network.config, found


def noisy_pairs(n, seed=0):
    """Hard labels of a judge who prefers "Yes" to "why?" with probability 0.8, whatever the question."""
    rng = random.Random(seed)
    rows = []
    for number in range(n):
        row = pair(f"Is {number} prime?", 1.0) | {"principle_ids": ["truth"], "source": "rule"}
        if rng.random() > 0.8:
            row["source"] = "noise"
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
        rows.append(row)
    return rows


def test_reward_reaches_the_oracles_accuracy_and_log_loss(tmp_path, model):
    data = write(tmp_path / "pairs.jsonl", noisy_pairs(600))
    config = RewardConfig(epochs=3, learning_rate=1e-3, batch_size=32, held_out=1 / 3, labels="hard")
    held_out = train_reward(data, str(model), tmp_path / "out", config, seed=0, progress=quiet)["held_out"]
    # The oracle knows that "Yes" wins with 0.8: right on every label but the noise, and no further.
    rule, noise = held_out["by_source"]["rule"], held_out["by_source"]["noise"]
    assert (rule["value"], noise["value"], rule["n"] + noise["n"]) == (1.0, 0.0, 200)
    assert held_out["accuracy"]["value"] == pytest.approx(rule["n"] / 200) and 0.7 < rule["n"] / 200 < 0.9
    log_loss = -(rule["n"] * math.log(0.8) + noise["n"] * math.log(0.2)) / 200
    assert held_out["nll"]["value"] == pytest.approx(log_loss, abs=0.03)
    assert held_out["by_principle"]["truth"]["n"] == 200
    assert sum(part["n"] for part in held_out["reliability"]) == 200
    assert held_out["longer_wins"]["labels"]["n"] == held_out["longer_wins"]["model"]["n"] == 200


def test_an_ensemble_of_heads_end_to_end(tmp_path, model):
    rows = noisy_pairs(60)
    data = write(tmp_path / "pairs.jsonl", rows)
    config = RewardConfig(
        epochs=3, learning_rate=5e-3, batch_size=16, held_out=0.2, heads=3, combine="min"
    )  # fmt: skip
    out = tmp_path / "out"
    summary = train_reward(data, str(model), out, config, seed=0, progress=quiet)
    settings, found = scores_of(out, rows)
    assert settings.num_labels == 3 and not hasattr(settings, "mean") and found[0][0].shape == (3,)
    weight = torch.stack([score for sides in found for score in sides])
    # Heads that learned from resamples of their own do not agree to the last digit.
    assert (weight[:, 0] - weight[:, 1]).abs().max() > 1e-2
    heads = summary["held_out"]["heads"]
    assert len(heads["accuracy_each"]) == 3 and heads["unanimous"]["n"] == 12
    # The mean and deviation of each head over the training answers; all rows here differ in few prompts.
    assert settings.score_means == summary["normalisation"]["mean"]
    renderer, asked = Renderer(chatml_tokenizer(), "tiny"), rows[0]["prompt"]
    side = renderer.prompt_ids(asked) + renderer.answer_ids(asked, rows[0]["chosen"][0]["content"])
    network = AutoModelForSequenceClassification.from_pretrained(out)
    ours = RewardModel(network, str(out), torch.device("cpu")).scores([side], Batching(0, 100))[0]
    by_hand = min(
        (raw - mean) / std
        for raw, mean, std in zip(
            found[0][0].tolist(), settings.score_means, settings.score_stds, strict=True
        )
    )
    assert ours == pytest.approx(by_hand, **LOGPROB)
    with pytest.raises(UsageError, match=r"a reward model of 3 heads and train\.reward\.heads is 1"):
        train_reward(data, str(out), tmp_path / "again", RewardConfig(), seed=0, progress=quiet)


def test_a_reward_model_of_one_head_is_in_openrlhfs_form(tmp_path, model):
    from safetensors import safe_open

    data = write(tmp_path / "pairs.jsonl", noisy_pairs(20))
    out = tmp_path / "out"
    train_reward(data, str(model), out, RewardConfig(batch_size=8), seed=0, progress=quiet)
    settings = json.loads((out / "config.json").read_text())
    assert isinstance(settings["mean"], float) and isinstance(settings["std"], float)
    assert settings["value_head_prefix"] == "score"
    with safe_open(out / "model.safetensors", framework="pt") as weights:
        names = set(weights.keys())
        assert weights.get_tensor("score.weight").shape == (1, 32)
    assert "score.bias" not in names
    assert all(name.startswith("model.") for name in names - {"score.weight"})


def test_an_interrupted_reward_run_goes_on_bit_for_bit(tmp_path, model):
    class Stop(Silent):
        def advance(self, stage, status="ok", **figures):
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 7:
                raise KeyboardInterrupt

    data = write(tmp_path / "pairs.jsonl", noisy_pairs(60))
    config = RewardConfig(epochs=2, learning_rate=1e-3, batch_size=10, heads=2, checkpoint_every=3)
    whole = train_reward(data, str(model), tmp_path / "whole", config, seed=0, progress=quiet)
    with pytest.raises(KeyboardInterrupt):
        train_reward(data, str(model), tmp_path / "cut", config, seed=0, progress=Stop())
    assert (tmp_path / "cut" / "checkpoints" / "iteration-000006").is_dir()
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    again = train_reward(data, str(model), tmp_path / "cut", config, seed=0, progress=quiet)
    timing = ("seconds", "seconds_training")
    assert {k: v for k, v in again.items() if k not in timing} == {
        k: v for k, v in whole.items() if k not in timing
    }
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "cut" / "checkpoints").exists()


def test_gradient_checkpointing_and_micro_batches_leave_the_model_as_it_is(tmp_path, model):
    data = write(tmp_path / "pairs.jsonl", noisy_pairs(24))
    losses = []
    for name, changes in (
        ("a", {}),
        ("b", {"gradient_checkpointing": True}),
        ("c", {"microbatch_tokens": 1}),
    ):
        config = RewardConfig(epochs=2, learning_rate=1e-3, batch_size=8, **changes)
        summary = train_reward(data, str(model), tmp_path / name, config, seed=0, progress=quiet)
        losses.append((summary["loss_first"], summary["loss_last"], summary["normalisation"]["mean"]))
    assert losses[1] == pytest.approx(losses[0], **FIGURE)
    assert losses[2] == pytest.approx(losses[0], **FIGURE)


def test_a_stock_tokenizer_whose_pad_is_its_eos_trains(tmp_path, model, caplog):
    from transformers import AutoTokenizer

    tokenizer = chatml_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(model)
    data = write(tmp_path / "pairs.jsonl", [pair("Is 7 prime?", 0.7)] * 2)
    train_reward(data, str(model), tmp_path / "out", RewardConfig(epochs=1), seed=0, progress=quiet)
    assert "its unused token <|pad|> pads instead" in caplog.text
    assert AutoTokenizer.from_pretrained(tmp_path / "out").pad_token == "<|pad|>"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pad_token_id"] == 0


def test_no_chat_template_is_refused(tmp_path, model):
    (model / "chat_template.jinja").unlink()
    data = write(tmp_path / "sft.jsonl", [{"prompt": "x", "completion": "y"}])
    with pytest.raises(UsageError, match="has no chat template"):
        train_sft(data, str(model), tmp_path / "out", SFTConfig(), seed=0, progress=quiet)
