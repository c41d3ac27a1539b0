"""SFT that is killed and started again, and SFT with other conversations mixed in."""

import json

import pytest
import torch
from tiny_models import chatml_tokenizer
from train_models import tiny_causal

from constitute.config.train import SFTConfig
from constitute.errors import RunMismatch
from constitute.progress import Silent
from constitute.train.sft import train_sft


@pytest.fixture
def model(tmp_path):
    tokenizer = chatml_tokenizer()
    folder = tmp_path / "model"
    tiny_causal(len(tokenizer), width=32, eos=tokenizer.eos_token_id, positions=256).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write(path, n, word, repeat=1):
    rows = [{"prompt": f"case {i} " * (1 + i % 4), "completion": f"{word} {i} " * repeat} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Stop(Exception):
    """The run is killed here."""


class Killer(Silent):
    """Kills a run at a step, and keeps what it was told at the start."""

    def __init__(self, after=0):
        self.after, self.started, self.notes = after, None, []

    def start(self, stage, total=None, done=0):
        self.started = (stage, total, done)

    def advance(self, stage, status="ok", **figures):
        self.after -= 1
        if not self.after:
            raise Stop

    def note(self, text):
        self.notes.append(text)


# 6 steps an epoch: the last checkpoint before step 11 is within the second epoch, or at its start.
@pytest.mark.parametrize(("rank", "every", "last"), [(0, 4, 8), (4, 6, 6)])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, model, rank, every, last):
    from safetensors.torch import load_file

    data = write(tmp_path / "sft.jsonl", 48, "Yes")
    config = SFTConfig(
        epochs=3, batch_size=8, device_batch_size=4, learning_rate=1e-2, lora_rank=rank,
        checkpoint_every=every,
    )  # fmt: skip

    def run(out, progress, seed=0):
        return train_sft(data, str(model), out, config, seed=seed, progress=progress)

    whole = run(tmp_path / "whole", Silent())
    assert whole["steps"] == 18
    killed = tmp_path / "killed"
    with pytest.raises(Stop):
        run(killed, Killer(11))
    # A checkpoint torn while it was written is passed over for the one before.
    torn = killed / "checkpoints" / "checkpoint-10"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"log_history": [')
    with pytest.raises(RunMismatch, match="seed"):
        run(killed, Silent(), seed=1)
    again = Killer()
    resumed = run(killed, again)
    assert again.started == ("train sft", 18, last)
    timeless = [name for name in whole if name != "seconds"]
    assert {name: whole[name] for name in timeless} == {name: resumed[name] for name in timeless}
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "killed")]
    assert lines[0] == lines[1]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not (killed / "checkpoints").exists()


def test_a_share_of_the_rows_is_mixed_in(tmp_path, model):
    data = write(tmp_path / "sft.jsonl", 24, "Yes")
    helpful = write(tmp_path / "helpful.jsonl", 40, "No")
    with helpful.open("a") as file:
        file.write(
            "".join(json.dumps({"prompt": "x", "completion": "long " * 200}) + "\n" for _ in range(40))
        )

    def run(out, progress=None, seed=0, **changes):
        settings = {"epochs": 1, "batch_size": 8, "max_length": 100, "mix_data": str(helpful)} | changes
        return train_sft(
            data, str(model), tmp_path / out, SFTConfig(**settings), seed=seed, progress=progress or Silent()
        )

    summary = run("quarter", mix_ratio=0.25)
    assert (summary["rows"], summary["rows_mixed"], summary["rows_too_long"]) == (32, 8, 0)
    assert summary["steps"] == 4 and summary["rows_mixed_too_long"] > 0
    # 24 / (1 - 0.75) * 0.75 = 72 were wanted; the 40 that fit are taken, and that is told.
    told = Killer()
    most = run("most", told, mix_ratio=0.75)
    assert (most["rows"], most["rows_mixed"], most["rows_mixed_too_long"]) == (64, 40, 40)
    assert told.notes == [f"{helpful} has 40 rows to mix in and 72 were wanted"]
    write(helpful, 41, "Nay")
    with pytest.raises(RunMismatch, match=r"inputs\.mix"):
        run("quarter", mix_ratio=0.25)


def test_each_epoch_has_its_own_order(tmp_path, model):
    data = write(tmp_path / "sft.jsonl", 48, "Yes")
    # So small a step that a batch's loss tells which rows are in it and nothing else.
    config = SFTConfig(epochs=2, batch_size=8, learning_rate=1e-12)
    train_sft(data, str(model), tmp_path / "out", config, seed=0, progress=Silent())
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    assert len(losses) == 12 and losses[:6] != losses[6:]
