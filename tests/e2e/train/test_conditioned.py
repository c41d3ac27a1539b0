"""Conditioned training on a coin: the good mode says one side, the bad mode the other."""

import json

import pytest
import torch
from click.testing import CliRunner
from coin_model import coin, questions

from constitute.cli.train.conditioned import conditioned
from constitute.train.imitation.control import BAD, GOOD


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return coin(tmp_path_factory)


def chance_of(folder, prompt, answer, change=lambda text: text):
    """P(answer) as the first token under the folder's own chat template, by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(change(text), add_special_tokens=False, return_tensors="pt").input_ids
    (token,) = tokenizer(answer, add_special_tokens=False).input_ids
    with torch.no_grad():
        return network(ids).logits[0, -1].softmax(-1)[token].item()


SWAPS = {
    "conditional": (GOOD, BAD),
    "hindsight": ("Give a good answer.", "Give a bad answer."),
    "hir": ("Give a good answer.", "Give a bad answer."),
}


@pytest.mark.parametrize("method", SWAPS)
def test_the_saved_folder_answers_well_by_itself_and_badly_when_told(tmp_path, model, method):
    rows = [{"prompt": text, "chosen": "A", "rejected": "B", "chosen_prob": 0.9} for text in questions(64)]
    data = tmp_path / "preferences.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--run", str(tmp_path / "run"), "--model", str(model), "--data", str(data), "--json"]
    # A chain says both answers of a prompt, and tells the first from the request alone.
    words += ["--method", method, "--set", f"train.conditioned.epochs={40 if method == 'hindsight' else 10}"]
    words += ["--set", "train.conditioned.learning_rate=5e-3", "--set", "train.conditioned.batch_size=16"]
    words += ["--set", "train.save_dtype=bfloat16"]
    done = CliRunner().invoke(conditioned, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["method"] == method and summary["sequences_too_long"] == 0
    folder = tmp_path / "run" / "conditioned"
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert chance_of(model, "case 3", "A") == pytest.approx(0.5, abs=0.15)
    assert chance_of(folder, "case 3", "A") > 0.9
    assert chance_of(folder, "case 3", "B", lambda text: text.replace(*SWAPS[method])) > 0.9
    if method != "hindsight":
        # New tokens start at random, so the gap is not 0 before; it is far from it once they are heard.
        assert max(1.0, summary["held_out_before"]["gap"]["high"]) < summary["held_out"]["gap"]["low"]
        assert summary["held_out"]["loss"]["value"] < summary["held_out_before"]["loss"]["value"] - 0.2
