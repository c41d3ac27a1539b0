"""With vLLM, whose answers need not repeat, a killed run still asks nothing again that it had on disk."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from e2e.pipeline.test_kill import CHILD, acknowledged, asked, kill_after

from constitute.store import FILE_NAME, Store

QUESTIONS = 60 * (2 + 4 + 4)


def start(run: Path, log: Path, model: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(CHILD), str(run), str(log), str(model)], env=environment)


def answers(run: Path) -> dict[str, str]:
    connection = sqlite3.connect(run / FILE_NAME)
    return dict(connection.execute("SELECT key, answer FROM answers").fetchall())


@pytest.mark.vllm
@pytest.mark.timeout(900)
def test_kills_lose_double_and_ask_again_nothing(tmp_path: Path, model_folder: Path) -> None:
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    run, log = tmp_path / "run", tmp_path / "log"
    again: list[str] = []
    kept: dict[str, str] = {}
    for lines in (150, 120):
        known, before = acknowledged(run), len(asked(log))
        kill_after(start(run, log, model_folder), log, lines, 0.01)
        again += [name for name in asked(log)[before:] if name in known]
        now = answers(run)
        assert kept.items() <= now.items(), "an acknowledged answer was lost or changed"
        kept = now
    assert 100 < len(kept) < QUESTIONS
    known, before = acknowledged(run), len(asked(log))
    assert start(run, log, model_folder).wait() == 0
    again += [name for name in asked(log)[before:] if name in known]
    assert again == []
    final = answers(run)
    assert kept.items() <= final.items()
    with Store.open(run, readonly=True) as store:
        counts = {stage: store.counts(stage) for stage in ("generate", "revise", "label")}
        assert sum(counts["generate"].values()) == 120
        assert sum(counts["revise"].values()) == counts["generate"]["ok"]
        for outcome in store.outcomes("generate", "ok"):
            [(_, _, answer)] = [row for row in store.answers_of(outcome.row_id) if row[0] == "generate"]
            assert outcome.data is not None and answer["text"].strip() == outcome.data["response"]
    print(json.dumps(counts))
