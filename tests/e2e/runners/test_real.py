"""A real model on a cluster that the command starts itself, killed and gone on with."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from places import ROOT

sys.path.insert(0, str(Path(__file__).parent))

from serving import answered, dump


def command(run: Path, *words: str) -> list[str]:
    settings = [
        "engine.kind=transformers",
        "engine.in_flight=8",
        "runner.ray.prompts=2",
        "runner.ray.actors=2",
    ]
    named = [word for each in settings for word in ("--set", each)]
    file = str(ROOT / "examples" / "pocket" / "run.yaml")
    begin = [sys.executable, "-m", "constitute", "run", file, "--until", "data", "--limit", "6"]
    return [*begin, "--run", str(run), *named, *words]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_pocket_on_two_actors_killed_and_gone_on_with(model_folder: Path, tmp_path: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    model = ["--model", str(model_folder)]
    assert subprocess.run(command(tmp_path / "whole", *model)).returncode == 0
    child = subprocess.Popen(command(tmp_path / "run", *model, "--on", "ray"))
    while answered(tmp_path / "run") < 15:
        assert child.poll() is None, "the run ended before it was killed"
        time.sleep(0.1)
    family = psutil.Process(child.pid).children(recursive=True)
    child.send_signal(signal.SIGKILL)
    child.wait()
    _, alive = psutil.wait_procs(family, timeout=120)
    assert not alive, "a cluster that the command started ends with it"
    before = answered(tmp_path / "run")
    assert subprocess.run(command(tmp_path / "run", *model, "--on", "ray")).returncode == 0
    assert dump(tmp_path / "run")["outcomes"] == dump(tmp_path / "whole")["outcomes"]
    assert answered(tmp_path / "run") > before >= 15
