"""The learning rate of adapters, where the default is that of all weights."""

import pytest

from constitute.config import RunConfig, load_config
from constitute.progress import Silent
from constitute.train.common.lora import note_rate
from constitute.train.dpo import run_dpo


class Notes(Silent):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


@pytest.mark.parametrize(
    ("section", "usual", "wanted"),
    [
        ("sft", "2e-05", "0.0002"),
        ("reward", "1e-05", "0.0001"),
        ("dpo", "5e-07", "1e-05"),
        ("conditioned", "2e-05", "0.0002"),
        ("ppo", "3e-06", "3e-05"),
        ("grpo", "1e-06", "1e-05"),
    ],
)
def test_adapters_at_the_rate_of_all_weights_are_told(section, usual, wanted):
    notes = Notes()
    note_rate(getattr(RunConfig().train, section), section, notes)
    sets = [f"train.{section}.lora_rank=8", f"train.{section}.learning_rate={wanted}"]
    note_rate(getattr(load_config(None, sets, {}).train, section), section, notes)
    assert notes.said == []
    note_rate(getattr(load_config(None, sets[:1], {}).train, section), section, notes)
    assert notes.said == [
        f"train.{section}.learning_rate is {usual}, which is for training all weights, and "
        f"train.{section}.lora_rank=8 trains adapters; set train.{section}.learning_rate={wanted}"
    ]


def test_a_trainer_says_it_before_it_trains(tmp_path, monkeypatch):
    monkeypatch.setattr("constitute.train.dpo.train_dpo", lambda *_, **__: {})
    notes = Notes()
    (tmp_path / "pairs.jsonl").touch()
    config = load_config(None, ["train.dpo.lora_rank=8"], {"run": str(tmp_path / "run")})
    run_dpo(config, data=tmp_path / "pairs.jsonl", model="tuned", out=tmp_path / "out", progress=notes)
    assert len(notes.said) == 1 and "set train.dpo.learning_rate=1e-05" in notes.said[0]
