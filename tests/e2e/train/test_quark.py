"""Quark on a coin: the reward rises as its tokens are learned, and a strong KL holds it."""

import json

import pytest
import torch
from click.testing import CliRunner
from coin_model import ENGINE, coin, prompts_file

from constitute.cli.train.quark import quark

REWARD = "def heads(prompts, completions):\n    return [float(c.text.strip() == 'A') for c in completions]\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return coin(tmp_path_factory)


def test_the_best_token_is_learned_and_written_by_the_saved_template(tmp_path, model, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.chdir(tmp_path)
    (tmp_path / "quark_rewards.py").write_text(REWARD)
    prompts = prompts_file(tmp_path / "prompts.jsonl", 64)
    words = ["--prompts", str(prompts), "--reward", "quark_rewards:heads", "--json", "--model", str(model)]
    words += ["--run", "run", *ENGINE, "--rounds", "2", "--set", "train.quark.held_out=0.5"]
    words += ["--set", "train.quark.quantiles=2", "-n", "4"]
    words += ["--set", "train.best_of_n.max_new_tokens=4", "--set", "train.conditioned.epochs=10"]
    words += ["--set", "train.conditioned.learning_rate=5e-3", "--set", "train.conditioned.batch_size=16"]
    words += ["--set", "train.save_dtype=bfloat16"]
    done = CliRunner().invoke(quark, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout.splitlines()[-1])
    first, second, third = (summary["rounds"][f"round {number}"] for number in range(3))
    assert first["reward"]["value"] == pytest.approx(0.5, abs=0.12)
    assert second["reward"]["value"] > 0.85 and second["p"] < 1e-3
    assert third["reward"]["value"] > 0.85 and third["pool"] > second["pool"] > 120
    folder = tmp_path / summary["policy"]
    assert folder == tmp_path / "run" / "quark" / "round-2" / "policy"
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "case 3"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|reward_2|>")
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def chance_of(answer, words):
        ids = tokenizer(words, add_special_tokens=False, return_tensors="pt").input_ids
        (token,) = tokenizer(answer, add_special_tokens=False).input_ids
        return network(ids).logits[0, -1].softmax(-1)[token].item()

    with torch.no_grad():
        assert chance_of("A", text) > 0.85
        assert chance_of("B", text.replace("<|reward_2|>", "<|reward_1|>")) > 0.85
