"""Trainings of a model whose template writes the day: what began before midnight goes on after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from train_models import tiny_causal
from unit.engines.test_render_training import TEMPLATES, trl_tokenizer

from constitute import clock
from constitute.config import load_config
from constitute.progress import Silent
from constitute.types import Message, Prompt

pytest.importorskip("trl")
DAY, NEXT = "2026-03-01", "2026-03-02"
SETTINGS = {
    "sft": {"epochs": 1, "batch_size": 4},
    "dpo": {"epochs": 1, "batch_size": 4, "held_out": 0.0},
    "reward": {"epochs": 1, "batch_size": 4, "held_out": 0.0},
    "ppo": {"iterations": 2, "batch_size": 2, "max_new_tokens": 4, "checkpoint_every": 1},
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = trl_tokenizer(TEMPLATES["llama3_2"])
    tiny_causal(len(tokenizer), width=16, eos=tokenizer.eos_token_id, positions=512).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Killed(Exception):
    pass


class Killer(Silent):
    """Kills a training after its first step."""

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        raise Killed


def length(prompts: Any, completions: Any) -> list[float]:
    return [float(len(one.token_ids)) for one in completions]


def train(kind: str, start: Path, folder: Path, progress: Silent) -> dict[str, Any]:
    sets = [f"train.{kind}.{name}={value}" for name, value in SETTINGS[kind].items()]
    sets += ["engine.kind=transformers", "engine.threads=1"]
    config = load_config(None, sets, {"run": str(folder), "model": str(start)})
    if kind == "ppo":
        from constitute.train.ppo.start import run_ppo

        prompts = [
            Prompt(id=f"p{n}", messages=(Message(role="user", content=f"Is {n} prime?"),)) for n in range(4)
        ]
        return run_ppo(config, prompts, policy=str(start), reward=length, progress=progress)
    data = folder / "pairs.jsonl"
    folder.mkdir(exist_ok=True)
    rows = [
        {"prompt": f"Is {n} prime?", "chosen": "Yes.", "rejected": "No.", "chosen_prob": 0.9}
        for n in range(4)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if kind == "sft":
        from constitute.train.sft import run_sft

        return run_sft(config, data=data, progress=progress)
    if kind == "dpo":
        from constitute.train.dpo import run_dpo as run
    else:
        from constitute.train.reward.train import run_reward as run
    return run(config, data=data, model=str(start), progress=progress)


def record(folder: Path, kind: str) -> dict[str, Any]:
    return json.loads((folder / kind / "training.json").read_text())


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_training_killed_before_midnight_goes_on_after_it(kind, start, tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "today", lambda: DAY)
    train(kind, start, tmp_path / "whole", Silent())
    with pytest.raises(Killed):
        train(kind, start, tmp_path / "killed", Killer())
    monkeypatch.setattr(clock, "today", lambda: NEXT)
    train(kind, start, tmp_path / "killed", Silent())
    whole, killed = (record(tmp_path / name, kind) for name in ("whole", "killed"))
    assert whole["made_by"] == killed["made_by"]
    weights = [(tmp_path / name / kind / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    # What is finished is known again on any later day.
    assert train(kind, start, tmp_path / "whole", Silent()) == whole["summary"]
    # A training of its own has its own day, and so other prompts.
    train(kind, start, tmp_path / "later", Silent())
    days = [made["made_by"]["inputs"] for made in (whole, record(tmp_path / "later", kind))]
    assert days[0] != days[1]
    # PPO's recipe holds what became of the prompts.
    assert kind == "ppo" or [inputs["date"] for inputs in days] == [DAY, NEXT]
