"""DPO against a task whose optimum is known in closed form (15 sequences, KL-regularised)."""

import json
import math
from itertools import combinations

import pytest
import torch
from e2e.train.test_gibbs import END, OPTIMUM, exact, sequences
from tiny_models import chatml_tokenizer
from tolerance import FORMULA, LOGPROB, tensors
from train_models import tiny_causal

from constitute.config.train import DPOConfig
from constitute.data.pairs import PreferencePair
from constitute.progress import Silent
from constitute.train.common.batching import Batching
from constitute.train.common.fit import Job
from constitute.train.common.models import Actor
from constitute.train.dpo import answer_logprobs, fit_dpo, train_dpo
from constitute.train.reward.pairs import TokenPair


def all_pairs():
    """Every pair of the 15 responses with P(chosen) = sigmoid(R_a - R_b), R the number of ones."""
    found = []
    for a, b in combinations(sequences(), 2):
        prob = 1 / (1 + math.exp(b.count(1) - a.count(1)))
        found.append(TokenPair([END, *a], [END, *b], 1, PreferencePair((), "a", "b", prob)))
    return found


def test_dpo_on_population_labels_lands_at_the_optimum(tmp_path):
    model = tiny_causal(vocab=3, width=32, eos=END)
    torch.nn.init.zeros_(model.lm_head.weight)
    actor, pairs = Actor(model), all_pairs()
    assert len(pairs) == 105
    reference = answer_logprobs(actor, pairs, Batching(0, 1 << 20))
    lengths = torch.tensor([len(pair.chosen) - 1 for pair in pairs])
    torch.testing.assert_close(reference.chosen_N, -lengths * math.log(3), **tensors(LOGPROB))
    config = DPOConfig(
        beta=0.5, epochs=500, batch_size=105, learning_rate=3e-3, schedule="cosine", warmup=0.0,
        checkpoint_every=1000,
    )  # fmt: skip
    losses = fit_dpo(actor, reference, pairs, config, Job("dpo", tmp_path, {}, 0, Silent()), pad_id=0)
    # Policy and reference are the same at first, and the labels' own entropy is the least possible loss.
    assert losses[0] == pytest.approx(math.log(2), **FORMULA)
    probs = [pair.row.chosen_prob for pair in pairs]
    entropy = sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p in probs) / 105
    assert losses[-1] == pytest.approx(entropy, abs=1e-3)
    reward, kl = exact(model)
    assert reward == pytest.approx(OPTIMUM[0.5][0], abs=0.02)
    assert kl == pytest.approx(OPTIMUM[0.5][1], abs=0.03)


def test_ipo_on_population_labels_lands_at_its_own_optimum(tmp_path):
    """Least squares over all pairs: log pi / ref of a response is its mean of (2p - 1) / (2 beta)."""
    model = tiny_causal(vocab=3, width=32, eos=END)
    torch.nn.init.zeros_(model.lm_head.weight)
    actor, pairs, beta = Actor(model), all_pairs(), 0.25
    reference = answer_logprobs(actor, pairs, Batching(0, 1 << 20))
    config = DPOConfig(
        loss="ipo", beta=beta, epochs=500, batch_size=105, learning_rate=3e-3, schedule="cosine",
        warmup=0.0, checkpoint_every=1000,
    )  # fmt: skip
    fit_dpo(actor, reference, pairs, config, Job("dpo", tmp_path, {}, 0, Silent()), pad_id=0)
    every = sequences()
    pull = [
        sum(math.tanh((a.count(1) - b.count(1)) / 2) for b in every) / len(every) / (2 * beta) for a in every
    ]
    weights = [3.0 ** -len(a) * math.exp(s) for a, s in zip(every, pull, strict=True)]
    shares = [weight / sum(weights) for weight in weights]
    gained = sum(share * a.count(1) for share, a in zip(shares, every, strict=True))
    apart = sum(s * math.log(s * 3.0 ** len(a)) for s, a in zip(shares, every, strict=True))
    reward, kl = exact(model)
    assert (reward, kl) == (pytest.approx(gained, abs=0.02), pytest.approx(apart, abs=0.02))


@pytest.fixture
def model(tmp_path):
    tokenizer = chatml_tokenizer()
    folder = tmp_path / "model"
    tiny_causal(len(tokenizer), width=32, eos=tokenizer.eos_token_id, positions=256).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path):
    """96 prompts, each answered "A" with P = 0.8 over "B"."""
    rows = [
        {"prompt": f"case {n}", "chosen": "A", "rejected": "B", "chosen_prob": 0.8, "weight": 1 + n % 2}
        for n in range(96)
    ]
    path = tmp_path / "preferences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


FAST = {"beta": 1.0, "epochs": 12, "batch_size": 16, "learning_rate": 1e-2, "held_out": 0.25}


@pytest.mark.parametrize("rank", [0, 4])
def test_dpo_learns_the_soft_label_from_text(tmp_path, model, data, rank):
    from transformers import AutoModelForCausalLM

    config = DPOConfig(lora_rank=rank, **FAST)
    summary = train_dpo(data, str(model), tmp_path / "out", config, seed=0, progress=Silent())
    assert (summary["pairs"], summary["pairs_held_out"], summary["steps"]) == (72, 24, 60)
    first = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(math.log(2), **LOGPROB)
    held = summary["held_out"]
    assert held["accuracy"]["value"] == 1.0 and held["accuracy"]["n"] == 24
    assert held["accuracy"]["low"] == pytest.approx(0.862, abs=1e-3)
    # The implicit reward's optimum is the label's own logit, ln 4: no further, as a hard label would go.
    assert held["margin"]["value"] == pytest.approx(math.log(4), abs=0.15)
    gap = held["log_ratio_chosen"]["value"] - held["log_ratio_rejected"]["value"]
    assert config.beta * gap == pytest.approx(held["margin"]["value"], **LOGPROB)
    old = AutoModelForCausalLM.from_pretrained(model).state_dict()
    new = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert old.keys() == new.keys()
    name = "model.layers.0.self_attn.q_proj.weight"
    if rank:
        assert torch.linalg.matrix_rank(new[name] - old[name], tol=1e-4) <= rank
    assert not torch.equal(new[name], old[name])
    assert "by direct preference optimisation" in (tmp_path / "out" / "README.md").read_text()


class Stop(Exception):
    """The run is killed here."""


class Killer(Silent):
    """Kills a run at a step."""

    def __init__(self, after):
        self.after = after

    def advance(self, stage, status="ok", **figures):
        self.after -= 1
        if not self.after:
            raise Stop


@pytest.mark.parametrize("rank", [0, 4])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, model, data, rank):
    from safetensors.torch import load_file

    config = DPOConfig(lora_rank=rank, checkpoint_every=3, **FAST | {"epochs": 2})

    def run(out, progress):
        return train_dpo(data, str(model), out, config, seed=0, progress=progress)

    whole = run(tmp_path / "whole", Silent())
    with pytest.raises(Stop):
        run(tmp_path / "killed", Killer(8))
    assert [path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()] == ["iteration-000006"]
    killed = run(tmp_path / "killed", Silent())
    timeless = [name for name in whole if "seconds" not in name]
    assert {name: whole[name] for name in timeless} == {name: killed[name] for name in timeless}
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not (tmp_path / "killed" / "checkpoints").exists()


def test_kto_learns_from_single_answers_and_from_pairs(tmp_path, model, data):
    """By the command: "A" is made likelier and "B" less likely, from pairs and from rows of one answer."""
    from click.testing import CliRunner

    from constitute.cli.main import cli

    single = tmp_path / "judged.jsonl"
    rows = [{"prompt": f"case {n}", "completion": "AB"[n % 2], "label": n % 2 == 0} for n in range(96)]
    single.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = ["loss=kto", "beta=1", "epochs=3", "batch_size=16", "learning_rate=0.01", "held_out=0.25"]
    args = [word for each in sets for word in ("--set", f"train.dpo.{each}")]
    # Which single answers are held out is chance, by the prompts' hashes; a pair has one of each kind.
    for file, answers, desirable in ((single, 72, 38), (data, 144, 72)):
        out = tmp_path / f"out-{file.stem}"
        command = ["train", "dpo", "--run", str(tmp_path / "run"), "--model", str(model), "--json"]
        done = CliRunner().invoke(cli, [*command, "--data", str(file), "--out", str(out), *args])
        assert done.exit_code == 0, done.output
        summary = json.loads((out / "training.json").read_text())["summary"]
        assert (summary["answers"], summary["answers_desirable"]) == (answers, desirable)
        held = summary["held_out"]
        assert held["accuracy"]["value"] == 1.0
        assert held["log_ratio_desirable"]["value"] > 0.2 and held["log_ratio_undesirable"]["value"] < -0.5
        assert "a policy trained by KTO" in (out / "README.md").read_text()
