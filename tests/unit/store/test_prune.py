"""Pruning lists and deletes what no command reads again, and nothing else."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from constitute.cli.prune import prune as command
from constitute.errors import UsageError
from constitute.store import Store
from constitute.store.prune import prunable, remove

STATE = "a trainer's state, of a training that ended"
LEFT = "left by a writer that was killed"


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    with Store.open(folder):
        pass
    for name, size in {
        "ppo/training.json": 1,
        "ppo/model.safetensors": 50,
        "ppo/metrics.jsonl": 1,
        "ppo/checkpoints/iteration-000002/model.safetensors": 100,
        "ppo/checkpoints/iteration-000002/training.pt": 200,
        "ppo/checkpoints/iteration-000002/state.json": 3,
        "ppo/checkpoints/iteration-000002/policy/model.safetensors": 50,
        "ppo/policies/iteration-000001/model.safetensors": 40,
        # Its training did not end: it goes on from here.
        "sft/checkpoints/iteration-000010/training.pt": 70,
        "sft/checkpoints/.iteration-000020.0123456789abcdef.tmp/training.pt": 60,
        # Of a training that ended, but killed before it removed them.
        "reward/training.json": 1,
        "reward/checkpoints/iteration-000004/training.pt": 30,
        "reward/checkpoints/iteration-000004/state.json": 5,
        "export/sft.jsonl": 9,
        "evals/results/a.json": 9,
        ".report.html.fedcba9876543210.tmp": 7,
        ".note.tmp": 8,
    }.items():
        write(folder / name, size)
    write(tmp_path / "elsewhere" / "iteration-000001" / "training.pt", 99)
    (folder / "dpo").mkdir()
    write(folder / "dpo" / "training.json", 1)
    (folder / "dpo" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    return folder


def listed(run: Path, **more: bool) -> list[tuple[str, int, str]]:
    return [(str(item.path.relative_to(run)), item.size, item.why) for item in prunable(run, **more)]


OLD = [
    (".report.html.fedcba9876543210.tmp", 7, LEFT),
    ("ppo/checkpoints/iteration-000002/model.safetensors", 100, STATE),
    ("ppo/checkpoints/iteration-000002/training.pt", 200, STATE),
    ("reward/checkpoints/iteration-000004", 35, STATE),
    ("sft/checkpoints/.iteration-000020.0123456789abcdef.tmp", 60, LEFT),
]


def test_states_of_ended_trainings_and_orphans_can_go(run):
    assert listed(run) == OLD
    with_policies = [
        OLD[0],
        ("ppo/checkpoints/iteration-000002", 353, f"{STATE}, with its policy"),
        ("ppo/policies/iteration-000001", 40, "a policy on the way, of a training that ended"),
        *OLD[3:],
    ]
    assert listed(run, policies=True) == with_policies


def test_nothing_is_deleted_without_yes_and_only_the_list_with_it(run):
    everything = {path for path in run.rglob("*") if path.is_file()}
    done = CliRunner().invoke(command, [str(run)])
    assert done.exit_code == 0 and {path for path in run.rglob("*") if path.is_file()} == everything
    total = sum(path.stat().st_size for path in everything)
    assert f"402 of {total:,} bytes can go: constitute prune {run} --yes" in done.stderr
    done = CliRunner().invoke(command, [str(run), "--yes"])
    assert f"deleted 402 of {total:,} bytes" in done.stderr
    gone = everything - {path for path in run.rglob("*") if path.is_file()}
    assert len(gone) == 6 and sum(1 for path in gone if "reward" in path.parts) == 2
    assert listed(run) == []
    assert (run.parent / "elsewhere" / "iteration-000001" / "training.pt").is_file()
    assert "nothing that can go" in CliRunner().invoke(command, [str(run)]).stderr
    with Store.open(run, readonly=True) as store:
        assert store.empty()


def test_what_a_living_writer_fills_stays(run):
    living = run / "sft/checkpoints/.iteration-000020.0123456789abcdef.tmp"
    descriptor = os.open(living, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert listed(run) == OLD[:-1]
    finally:
        os.close(descriptor)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no run in .* \(no run\.sqlite\); give the directory of a run"):
        prunable(tmp_path)


def test_what_is_gone_already_is_no_error(run):
    items = prunable(run)
    assert remove(items[:1]) == 7 and remove(items[:1]) == 7
