"""A reward model that was trained, a policy that was, and a function, on files, as a user types it."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from tiny_models import chatml_tokenizer
from train_models import tiny_causal

from constitute.cli.main import cli
from constitute.config.train import DPOConfig, RewardConfig
from constitute.errors import UsageError
from constitute.progress import Silent
from constitute.train.dpo import train_dpo
from constitute.train.reward.train import train_reward


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


def pairs(questions, subset=None, **more):
    """The better answer is "Yes" and the worse "why?", whatever the question."""
    part = {} if subset is None else {"subset": subset}
    return [
        {"prompt": f"Is {n} prime?", "chosen": "Yes", "rejected": "why?", **part, **more} for n in questions
    ]


def reward(*words):
    """`constitute evals reward` in this process; its results by set."""
    done = CliRunner().invoke(cli, ["evals", "reward", *map(str, words), "--json"], catch_exceptions=False)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done, {one["set"]: one for one in found if one["event"] == "result"}


def test_a_trained_reward_model_and_policy_on_new_prompts(tmp_path, model, monkeypatch):
    """Labels of 0.7: P(right) is 0.7 by the trained head; the policy leans the same way."""
    monkeypatch.chdir(tmp_path)
    data = write(tmp_path / "train.jsonl", pairs(range(64), chosen_prob=0.7))
    learnt = RewardConfig(epochs=40, learning_rate=5e-3, batch_size=16, held_out=0.0, warmup=0.0)
    train_reward(data, str(model), tmp_path / "rm", learnt, seed=0, progress=Silent())
    preferred = DPOConfig(epochs=4, learning_rate=1e-3, batch_size=16, held_out=0.0)
    train_dpo(data, str(model), tmp_path / "dpo", preferred, seed=0, progress=Silent())

    wrong = {**pairs([99], "math-prm")[0], "chosen": "why?", "rejected": "Yes"}
    bench = write(tmp_path / "bench.jsonl", [*pairs(range(70, 79), "hep-go"), wrong])
    done, found = reward("rm", bench)
    assert done.exit_code == 0, done.output
    result = found["bench"]
    assert result["share"]["value"] == 0.9 and result["share"]["n"] == 10
    assert result["p_matching"]["value"] == pytest.approx(0.9 * 0.7 + 0.1 * 0.3, abs=0.02)
    assert result["figures"]["Reasoning"]["value"] == pytest.approx(164 / (164 + 984))
    assert result["figures"]["margin"]["value"] == pytest.approx(0.8 * math.log(0.7 / 0.3), abs=0.1)

    done, found = reward("dpo", "--reference", model, bench)
    assert done.exit_code == 0 and found["bench"]["share"]["value"] == 0.9
    assert found["bench"]["policy"] == "dpo-implicit" and found["bench"]["figures"]["margin"]["value"] > 0

    compared = CliRunner().invoke(cli, ["evals", "compare", "rm", "dpo-implicit", "--json"])
    whole = json.loads(compared.stdout.splitlines()[0])
    assert (whole["only_first"], whole["only_second"], whole["p"]) == (0, 0, 1.0)

    with pytest.raises(UsageError, match="--reference MODEL"):
        reward("dpo", bench)


def test_the_table_and_rows_that_the_template_refuses(tmp_path, model, monkeypatch):
    """Five pairs of "Yes" and "why?" learnt surely; a sixth begins with the assistant."""
    from transformers import AutoTokenizer

    monkeypatch.chdir(tmp_path)
    data = write(tmp_path / "train.jsonl", pairs(range(32)))
    learnt = RewardConfig(epochs=8, learning_rate=5e-3, batch_size=16, held_out=0.0)
    train_reward(data, str(model), tmp_path / "rm", learnt, seed=0, progress=Silent())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "rm")
    refuses = "{{ raise_exception('turns must alternate') }}"
    checked = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}" + refuses
    tokenizer.chat_template = checked + "{% endif %}{% endfor %}" + tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path / "rm")
    turns = [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Is 7 prime?"}]
    file = write(tmp_path / "own.jsonl", [*pairs(range(5)), {**pairs([9])[0], "prompt": turns}])
    words = [sys.executable, "-m", "constitute", "evals", "reward", "rm", str(file), "--policy", "mine"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("own"))
    assert (
        "1.000 (0.566 to 1.000, n = 5)" in row
        and "takes no conversation that begins with the assistant" in row
    )
    assert "next: score another reward model, then constitute evals compare mine OTHER" in done.stderr
    saved = json.loads((tmp_path / "run/evals/results/own--mine.json").read_text())
    assert saved["failed"] == 1 and len(saved["scores"]) == 5
