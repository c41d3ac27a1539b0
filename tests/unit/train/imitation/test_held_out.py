"""The loss on conversations held out of SFT, by hand and through the trainer."""

import json

import pytest
import torch
from tiny_models import chatml_tokenizer
from train_models import tiny_causal

from constitute.config.train import SFTConfig
from constitute.progress import Silent
from constitute.train.common.data import Conversation
from constitute.train.imitation.held_out import Evaluation, row_losses, split_conversations, token_mean
from constitute.train.sft import train_sft
from constitute.types import Message


def asked(prompt, answer):
    return Conversation(
        (Message(role="user", content=prompt), Message(role="assistant", content=answer)), (1,)
    )


def test_a_prompt_is_on_one_side_only():
    conversations = [asked(f"p{n // 2}", f"a{n}") for n in range(20)]
    train, held = split_conversations(conversations, 0.3, 0)
    prompts = [{one.turns[0].content for one in side} for side in (train, held)]
    assert (len(train), len(held)) == (14, 6) and not prompts[0] & prompts[1]
    assert split_conversations(conversations, 0.0, 0) == (conversations, [])
    assert split_conversations(conversations, 0.3, 1)[1] != held


def test_the_loss_of_a_row_is_that_of_its_trained_tokens():
    network = tiny_causal(16, layers=1)
    rows = [([3, 4, 5, 6], [-100, -100, 5, 6]), ([7, 8, 9], [-100, 8, -100])]
    found = row_losses(network, rows, 0)
    assert [tokens for _, tokens in found] == [2, 1]
    for (ids, labels), (nats, _) in zip(rows, found, strict=True):
        logprobs = network(torch.tensor([ids])).logits[0].log_softmax(-1)
        own = -sum(logprobs[at - 1, label].item() for at, label in enumerate(labels) if label != -100)
        assert nats == pytest.approx(own, rel=1e-5)
    assert token_mean([(2.0, 4), (1.0, 1)]) == 0.6


def test_when_rows_are_scored_and_what_is_said_of_it():
    evaluation = Evaluation([([1, 2], [-100, 2])], 4, 0)
    assert [step for step in range(11) if evaluation.due(step, 10)] == [0, 4, 8, 10]
    assert not Evaluation([], 4, 0).due(0, 10) and Evaluation([], 4, 0).figures(0) == {}
    evaluation.points = {0: 3.0, 4: 1.0, 8: 0.5, 10: 0.7}
    evaluation.last = [(0.7, 1), (1.4, 2)]
    found = evaluation.figures(0)["held_out"]
    assert (found["loss_before"], found["loss_lowest"], found["step_lowest"]) == (3.0, 0.5, 8)
    assert found["loss"]["value"] == pytest.approx(0.7) and found["loss"]["n"] == 2


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


def test_held_out_rows_are_scored_through_a_killed_run(tmp_path):
    tokenizer = chatml_tokenizer()
    model = tmp_path / "model"
    tiny_causal(len(tokenizer), width=32, eos=tokenizer.eos_token_id, positions=256).save_pretrained(model)
    tokenizer.save_pretrained(model)
    data = tmp_path / "sft.jsonl"
    rows = [{"prompt": f"case {n}", "completion": "Yes, it is."} for n in range(40)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = SFTConfig(
        epochs=2, batch_size=8, learning_rate=1e-2, held_out=0.2, eval_every=3, checkpoint_every=5
    )

    def run(out, progress):
        return train_sft(data, str(model), tmp_path / out, config, seed=0, progress=progress)

    whole = run("whole", Silent())
    assert (whole["rows"], whole["rows_held_out"], whole["steps"]) == (32, 8, 8)
    figures = whole["held_out"]
    assert figures["loss_before"] > 5 and figures["loss"]["value"] < figures["loss_before"] - 1
    assert figures["loss"]["n"] == 8
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "held_out_loss" in line] == [3, 6, 8]
    assert lines[-1]["held_out_loss"] == pytest.approx(figures["loss"]["value"], rel=1e-9)
    with pytest.raises(Stop):
        run("killed", Killer(7))
    again = run("killed", Silent())
    assert again["held_out"] == figures
    assert (tmp_path / "killed" / "metrics.jsonl").read_text() == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_text()
