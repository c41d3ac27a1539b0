"""Checkpoints in parts: they go on over other numbers of processes, count when whole, and so many stay."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
import torch
from tolerance import FIGURE

CHILD = Path(__file__).with_name("shards_child.py")


def run(folder, *phases):
    folder.mkdir(exist_ok=True)
    words = [sys.executable, str(CHILD), str(folder), *phases]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "checkpoints"


def weights(folder, steps):
    return torch.load(folder / f"weights-{steps}.pt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of eight steps in one process that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, "0:8")
    return weights(folder, 8)


def same(found, expected):
    for name, value in expected.items():
        assert found[name].flatten().tolist() == pytest.approx(value.flatten().tolist(), **FIGURE), name


def test_two_processes_then_one_then_two_learn_what_one_does(tmp_path, whole):
    checkpoints = run(tmp_path, "2:4")
    newest = checkpoints / "iteration-000004"
    # Every process wrote a part; nobody wrote the whole.
    assert sorted(path.name for path in (newest / "shards").iterdir()) == [
        ".metadata", "__0_0.distcp", "__1_0.distcp"
    ]  # fmt: skip
    assert not (newest / "model.safetensors").exists()
    run(tmp_path, "0:6")
    assert json.loads((tmp_path / "started.json").read_text()) == 4
    assert (checkpoints / "iteration-000006" / "model.safetensors").exists()
    run(tmp_path, "2:8")
    assert json.loads((tmp_path / "started.json").read_text()) == 6
    same(weights(tmp_path, 8), whole)
    # The newest two, and the best, which is the first.
    assert sorted(path.name for path in checkpoints.iterdir()) == [f"iteration-00000{n}" for n in (2, 6, 8)]


def test_a_save_that_was_killed_does_not_count(tmp_path, whole):
    checkpoints = run(tmp_path, "2:4", "2:6!")
    assert (checkpoints / ".iteration-000006" / "shards" / ".metadata").is_file()
    assert not (checkpoints / "iteration-000006").exists()
    run(tmp_path, "2:8")
    assert json.loads((tmp_path / "started.json").read_text()) == 4
    same(weights(tmp_path, 8), whole)
    assert not list(checkpoints.glob(".*"))


def test_parts_of_another_model_are_refused(tmp_path):
    from torch.distributed.checkpoint import FileSystemWriter, save

    from constitute.errors import UsageError
    from constitute.train.common import shards

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    save({"model.other": torch.zeros(2)}, storage_writer=FileSystemWriter(tmp_path), no_dist=True)
    with pytest.raises(UsageError, match=r"of another model \(weight\)"):
        shards.read(tmp_path, torch.nn.Linear(2, 2, bias=False), optimizer, {})
