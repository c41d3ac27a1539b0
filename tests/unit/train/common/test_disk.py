"""What a training is said to write: counted by hand, and no less than what lies there."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest
import torch
from torch import nn

from constitute.progress import Silent
from constitute.store.prune import size_of
from constitute.train.common.checkpoint import save_checkpoint
from constitute.train.common.disk import checkpoint_bytes, model_bytes, most_bytes, note_disk


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def model() -> nn.Sequential:
    made = nn.Sequential(nn.Linear(10, 20, bias=False), nn.Linear(20, 5, bias=False))
    made[1].weight.requires_grad_(False)
    return made


def test_weights_count_once_and_trained_ones_twice_more():
    # 200 + 100 weights of 4 bytes; 200 of them are trained.
    assert model_bytes(model()) == 1200 and checkpoint_bytes(model()) == 1200 + 1600
    tied = nn.ModuleList([nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False)])
    tied[1].weight = tied[0].weight
    assert model_bytes(tied) == 400


@pytest.mark.parametrize(
    ("checkpoints", "kept", "policies", "wanted"),
    [
        (0, 1, 0, 10),  # no checkpoint, only the model
        (1, 1, 0, 40),  # one, and the model beside it
        (5, 1, 0, 60),  # the new one beside the old one
        (1, 2, 0, 40),
        (5, 2, 0, 90),  # last, best and the new one
        (5, 2, 5, 140),
    ],
)
def test_the_most_that_lies_there_at_once(checkpoints, kept, policies, wanted):
    assert most_bytes(30, 10, checkpoints, kept=kept, policies=policies) == wanted


def test_the_estimate_is_what_a_checkpoint_takes(tmp_path):
    net = nn.Linear(300, 300)
    adam = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 300)).sum().backward()
    adam.step()
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1.0)
    save_checkpoint(tmp_path, 1, net, adam, schedule, {})
    # Random states and names are some kilobytes beside 1.08 MB.
    assert 1.0 <= size_of(tmp_path) / checkpoint_bytes(net) < 1.05


def test_much_or_too_much_is_said(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 3 * 10**9))
    notes = Notes()
    for need in (10**8 - 1, 2 * 10**9, 5 * 10**9):
        note_disk(notes, "sft", tmp_path / "new" / "sft", need)
    assert notes.said[0].startswith("training sft writes up to 2.0 GB to ")
    assert notes.said[0].endswith("; 3.0 GB are free")
    assert "up to 5.0 GB" in notes.said[1] and "only 3.0 GB are free; make room" in notes.said[1]
    assert len(notes.said) == 2
