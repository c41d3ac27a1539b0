"""Best-of-n with the embedded model and a real engine, from the command line and from Python."""

import json

import pytest
import torch
from click.testing import CliRunner
from tolerance import LOGPROB

from constitute.cli.train.best_of_n import best_of_n
from constitute.cli.train.group import dpo
from constitute.config import EngineConfig, RunConfig
from constitute.train.best_of_n.choice import read_samples
from constitute.train.best_of_n.run import run_best_of_n
from constitute.train.common.data import read_conversations
from constitute.types import Message, Prompt

QUESTIONS = ["Is 7 a prime number?", "Tell me about rice.", "What is the capital of France?"]


def test_the_best_of_four_by_a_function_then_sft(tmp_path, model_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rewards.py").write_text(
        "def brevity(prompts, completions):\n    return [-len(c.token_ids) for c in completions]\n"
    )
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in QUESTIONS))
    words = ["--prompts", str(prompts), "-n", "4", "--reward", "my_rewards:brevity", "--sft", "--json"]
    words += ["--model", str(model_folder), "--run", "run", "--set", "engine.kind=transformers"]
    words += ["--set", "train.sft.epochs=1"]
    done = CliRunner().invoke(best_of_n, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout.splitlines()[-1])
    samples = list(read_samples(tmp_path / "run" / "best-of-n" / "samples.jsonl"))
    assert len(samples) == 12 and summary["samples"] == 12
    best = [one.turns for one in read_conversations(tmp_path / "run" / "best-of-n" / "best.jsonl", "last")]
    assert len(best) == 3 - summary["prompts_failed"]
    for turns in best:
        own = [row for row in samples if row.eligible and row.text.strip() == turns[-1].content]
        assert own and max(row.score for row in own) == -min(row.tokens for row in own)
    assert len({row.text for row in samples}) > 3
    one, four = (summary["reward"][f"best of {k}"]["value"] for k in (1, 4))
    assert one < four
    assert summary["sft"]["rows"] == len(best)
    assert (tmp_path / "run" / "best-of-n" / "sft" / "model.safetensors").is_file()


def test_a_reward_model_scores_what_it_would_score_alone(tmp_path, model_folder, transformers_engine):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from constitute.engines.render import Renderer

    reward = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=1)
    torch.manual_seed(0)
    torch.nn.init.normal_(reward.score.weight, std=0.1)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    reward.config.pad_token_id = tokenizer.pad_token_id
    reward.save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    prompts = [
        Prompt(id=str(at), messages=(Message(role="user", content=text),))
        for at, text in enumerate(QUESTIONS)
    ]
    config = RunConfig(
        model=str(model_folder), run=tmp_path / "run", engine=EngineConfig(kind="transformers")
    )
    summary = run_best_of_n(config, prompts, reward=str(tmp_path / "reward"), n=2, engine=transformers_engine)
    samples = list(read_samples(tmp_path / "run" / "best-of-n" / "samples.jsonl"))
    assert summary["prompts"] == 3 and len(samples) == 6
    renderer = Renderer(tokenizer, "policy")
    checked = 0
    for row in samples:
        if not row.ended:
            continue
        turns = [{"role": "user", "content": QUESTIONS[int(row.prompt_id)]}]
        answer = renderer.answer_ids(turns, row.text)
        if len(answer) != row.tokens:
            continue
        own = reward(torch.tensor([renderer.prompt_ids(turns) + answer])).logits.item()
        assert row.score == pytest.approx(own, **LOGPROB)
        checked += 1
    assert checked >= 1


def test_dpo_command(tmp_path, model_folder):
    rows = [
        {"prompt": f"Is {n} prime?", "chosen": "Yes.", "rejected": "No.", "chosen_prob": 0.7}
        for n in range(20)
    ]
    data = tmp_path / "preferences.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--run", str(tmp_path / "run"), "--model", str(model_folder), "--data", str(data)]
    (tmp_path / "run" / "evals").mkdir(parents=True)
    (tmp_path / "run" / "evals" / "kind.jsonl").touch()
    done = CliRunner().invoke(dpo, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "held_out accuracy" in done.stdout and "log_ratio_chosen" in done.stdout
    assert f"next: constitute evals run --run {tmp_path / 'run'}" in done.stderr
    assert (tmp_path / "run" / "dpo" / "model.safetensors").is_file()
