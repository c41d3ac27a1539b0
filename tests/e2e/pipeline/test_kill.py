"""A run killed anywhere and started again gives what an uninterrupted one gives, and asks nothing twice."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted import question_id

from constitute.config import ExportConfig
from constitute.data.export import export_run
from constitute.store import FILE_NAME
from constitute.types import Request

CHILD = Path(__file__).parent / "kill_child.py"


def start(run: Path, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(CHILD), str(run), str(log)])


def asked(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def acknowledged(run: Path) -> set[str]:
    """Ids of the questions whose answers are in the store."""
    if not (run / FILE_NAME).exists():
        return set()
    connection = sqlite3.connect(run / FILE_NAME)
    try:
        rows = connection.execute("SELECT request FROM answers").fetchall()
    except sqlite3.OperationalError:  # killed before the tables were made
        return set()
    finally:
        connection.close()
    requests = [json.loads(text) for (text,) in rows]
    return {
        question_id(
            Request.model_validate({key: request[key] for key in Request.model_fields}), request["labels"]
        )
        for request in requests
    }


def kill_after(child: subprocess.Popen[bytes], log: Path, lines: int, delay_s: float) -> None:
    """SIGKILL once `lines` more questions were asked and `delay_s` went by."""
    wanted = len(asked(log)) + lines
    while child.poll() is None and len(asked(log)) < wanted:
        time.sleep(0.002)
    time.sleep(delay_s)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run was over before it was killed"


def dump(run: Path) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(run / FILE_NAME)
    queries = {
        "outcomes": "SELECT * FROM outcomes ORDER BY stage, position, row_id",
        "answers": "SELECT * FROM answers ORDER BY key",
        "attempts": "SELECT DISTINCT key, stage, row_id, reason, answer FROM attempts ORDER BY 1, 2, 3, 4",
    }
    return {name: connection.execute(query).fetchall() for name, query in queries.items()}


def exports(run: Path, out: Path) -> dict[str, bytes]:
    export_run(run, ExportConfig(), kinds=("sft", "preferences"), out=out)
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix == ".jsonl"}


@pytest.mark.parametrize("kills", [8, pytest.param(20, marks=pytest.mark.long)])
def test_kills_change_nothing(tmp_path: Path, kills: int) -> None:
    whole, run = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, tmp_path / "whole.log").wait() == 0
    log, rng = tmp_path / "killed.log", random.Random(7)
    again: list[str] = []
    for _ in range(kills):
        known, before = acknowledged(run), len(asked(log))
        kill_after(start(run, log), log, rng.randint(0, 130), rng.random() * 0.03)
        again += [name for name in asked(log)[before:] if name in known]
    known, before = acknowledged(run), len(asked(log))
    assert 0 < len(known) < len(set(asked(tmp_path / "whole.log")))
    assert start(run, log).wait() == 0
    again += [name for name in asked(log)[before:] if name in known]
    assert again == [], "questions asked again although their answers were on disk"
    assert dump(run) == dump(whole)
    assert set(asked(log)) == set(asked(tmp_path / "whole.log"))
    files = exports(run, tmp_path / "out-killed")
    assert files == exports(whole, tmp_path / "out-whole")
    assert set(files) == {"sft.jsonl", "preferences.jsonl"} and all(files.values())


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_with_130_and_it_goes_on(tmp_path: Path, name: signal.Signals) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(30_000)))
    words = ["generate", "--model", "m", "--set", "engine.kind=fake", "--prompts", str(prompts)]
    command = [sys.executable, "-m", "constitute", *words, "--run", str(tmp_path / "run")]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not acknowledged(tmp_path / "run"):
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(name)
    _, talk = child.communicate(timeout=120)
    assert child.returncode == 130
    assert talk.strip().endswith("interrupted; run the same command again to continue")
    known = len(acknowledged(tmp_path / "run"))
    assert 0 < known < 30_000
    done = subprocess.run([*command, "--limit", str(known)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "run")


def test_a_full_disk_ends_in_one_sentence_and_the_run_goes_on_after_it(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the full disk: the write that goes beyond it fails in the same call."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(600)))
    words = ["generate", "--model", "m", "--set", "engine.kind=fake", "--prompts", str(prompts)]
    words += ["--run", str(tmp_path / "run")]
    code = (
        "import resource, sys; from constitute.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))\nmain()"
    )
    full = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert full.returncode == 2
    assert "free some space" in full.stderr.splitlines()[-1] and "Traceback" not in full.stderr
    known = len(acknowledged(tmp_path / "run"))
    assert 0 < known < 600
    words.append("--json")
    done = subprocess.run([sys.executable, "-m", "constitute", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["ok"], result["asked"]) == (600, 600 - known)
