"""`train reward` from rows of ranked answers, with a first training on other pairs and a lower bound."""

import json
import random

import pytest
import torch
from click.testing import CliRunner
from tiny_models import chatml_tokenizer
from tolerance import LOGPROB
from train_models import tiny_causal
from transformers import AutoModelForSequenceClassification

from constitute.cli.main import cli
from constitute.engines.tokenizer import load_tokenizer
from constitute.errors import RunMismatch
from constitute.train.common.batching import Batching
from constitute.train.reward.model import open_reward_model
from constitute.train.reward.uncertainty import load_uncertainty

WORDS = ("rice", "well", "north", "town", "harmful")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a tiny model, ranked rows, and pairs to learn from first."""
    monkeypatch.chdir(tmp_path)
    tokenizer = chatml_tokenizer()
    tiny_causal(len(tokenizer), width=32, eos=tokenizer.eos_token_id, positions=256).save_pretrained("model")
    tokenizer.save_pretrained("model")
    rng = random.Random(0)
    # The more of a sentence is `Yes`, the better.
    answers = [" ".join(["Yes"] * n + ["no"] * (4 - n)) for n in range(5)]
    rows = []
    for number in range(40):
        places = rng.sample(range(5), 4)
        texts, prompt = [answers[place] for place in places], f"{rng.choice(WORDS)} {number}?"
        if number % 2:
            rows.append({"prompt": prompt, "answers": texts, "scores": places})
        else:
            best_first = sorted(places, reverse=True)
            rows.append({"prompt": prompt, "ranked": [answers[place] for place in best_first]})
    (tmp_path / "ranked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [
        {"prompt": f"{rng.choice(WORDS)} {n}!", "chosen": "Yes no Yes", "rejected": "no no no"}
        for n in range(32)
    ]
    (tmp_path / "others.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    return tmp_path


def train(*sets):
    """`constitute train reward` in this process; its summary."""
    words = [word for text in sets for word in ("--set", f"train.reward.{text}")]
    args = ["train", "reward", "--model", "model", "--data", "ranked.jsonl", "--out", "out", "--json", *words]
    done = CliRunner().invoke(cli, args, standalone_mode=False, catch_exceptions=False)
    return json.loads(done.stdout.splitlines()[-1])


SETS = (
    "ranking=kwise",
    "learning_rate=3e-3",
    "batch_size=8",
    "epochs=6",
    "held_out=0.2",
    "schedule=constant",
)
MORE = ("combine=lower_bound", "penalty=2", "pretrain_data=others.jsonl", "pretrain_learning_rate=1e-3")


def test_rankings_after_other_pairs_and_under_a_lower_bound(folder):
    summary = train(*SETS, *MORE)
    assert (summary["pairs"], summary["pairs_held_out"]) == (32 * 6, 8 * 6)
    assert (summary["rankings"], summary["pairs_in_no_ranking"]) == (32, 0)
    # ln 4! at first, for nothing is known of four answers; much less in the end.
    assert summary["loss_last"] < 0.6 * summary["loss_first"]
    assert summary["held_out"]["accuracy"]["value"] > 0.9
    assert summary["pretrained"]["pairs"] == 26
    assert summary["normalisation"]["combine"] == "lower_bound"
    record = json.loads((folder / "out" / "training.json").read_text())
    assert record["made_by"]["inputs"].keys() >= {"data", "pretrain_data", "model"}
    first = json.loads((folder / "out" / "pretrained" / "training.json").read_text())
    assert first["made_by"]["config"]["learning_rate"] == 1e-3

    # The folder is a plain classifier; the bound is ours, wherever it is opened.
    tokenizer = load_tokenizer("model")
    model = open_reward_model("out", tokenizer, "model", torch.float32, torch.device("cpu"))
    plain = AutoModelForSequenceClassification.from_pretrained("out").eval()
    sequences = [[5, 9, 40, 7], [8, 3, 3, 120, 6]]
    with torch.no_grad():
        states = torch.stack([plain.model(torch.tensor([ids])).last_hidden_state[0, -1] for ids in sequences])
        raw = plain.score(states)[:, 0]
    errors = load_uncertainty("out").errors(states)
    found = summary["normalisation"]
    expected = (raw - found["mean"]) / found["std"] - 2.0 * errors / found["std"]
    assert model.scores(sequences, Batching(0, 64)) == pytest.approx(expected.tolist(), **LOGPROB)
    assert errors.min() > 0.05

    # What is finished answers at once; other pairs to begin with would make another model.
    assert train(*SETS, *MORE)["seconds"] == summary["seconds"]
    with (folder / "others.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "more", "chosen": "a", "rejected": "b"}) + "\n")
    with pytest.raises(RunMismatch, match="pretrain_data"):
        train(*SETS, *MORE)
