"""The files of examples/scale, run with a stand-in for the command, are a whole set of shards."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from places import ROOT
from ruamel.yaml import YAML

from constitute.cli.main import cli
from constitute.config import Shard

SCALE = ROOT / "examples" / "scale"
TASKS = 8
# Records what it is given, and ends as a run of which some rows failed.
STAND_IN = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["GIVEN"], "a") as stream:
    print(json.dumps(sys.argv[1:]), file=stream)
sys.exit(int(os.environ.get("CODE", "0")))
"""


def read(name: str) -> Any:
    return YAML(typ="safe").load((SCALE / name).read_text(encoding="utf-8"))


def given(script: str, folder: Path, wanted: int = 0, **env: str) -> list[list[str]]:
    """The words of each `constitute` in a script, which ends with `wanted`."""
    folder.mkdir(exist_ok=True)
    command = folder / "constitute"
    command.write_text(STAND_IN)
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    log = folder / "given"
    log.unlink(missing_ok=True)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        [
            "bash",
            "-c",
            script.replace("/shards/", f"{folder}/bucket/").replace(" /shards", f" {folder}/bucket"),
        ],
        cwd=folder,
        env={"PATH": path, "GIVEN": str(log), **env},
    )
    assert done.returncode == wanted
    return [json.loads(line) for line in log.read_text().splitlines()]


def parsed(words: list[str]) -> dict[str, Any]:
    """What our own parser makes of a command's words."""
    with click.Context(cli) as above:
        name, command, rest = cli.resolve_command(above, list(words))
        assert command is not None and name is not None
        with command.make_context(name, rest, parent=above) as context:
            return dict(context.params)


def scripts() -> dict[str, tuple[str, dict[int, dict[str, str]]]]:
    """Script and the environment of each of its tasks."""
    tasks = range(TASKS)
    slurm = {at: {"SLURM_ARRAY_TASK_ID": str(at + 1), "SLURM_ARRAY_TASK_COUNT": str(TASKS)} for at in tasks}
    container = read("kubernetes.yaml")["spec"]["template"]["spec"]["containers"][0]
    pods = {at: {"JOB_COMPLETION_INDEX": str(at)} for at in tasks}
    nodes = {at: {"SKYPILOT_NODE_RANK": str(at), "SKYPILOT_NUM_NODES": str(TASKS)} for at in tasks}
    return {
        "shards.sbatch": ((SCALE / "shards.sbatch").read_text(), slurm),
        "kubernetes.yaml": (container["args"][0], pods),
        "skypilot.yaml": (read("skypilot.yaml")["run"], nodes),
    }


@pytest.mark.parametrize("name", ["shards.sbatch", "kubernetes.yaml", "skypilot.yaml"])
def test_the_tasks_are_all_shards_of_one_run(name: str, tmp_path: Path) -> None:
    script, tasks = scripts()[name]
    made = []
    for at, env in tasks.items():
        (tmp_path / "shards" / str(at + 1)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "bucket").mkdir(exist_ok=True)
        (words,) = given(script, tmp_path, CODE="3", **env)
        options = parsed(words)
        assert options["sets"] == ("engine.date=2026-01-01",) and options["file"].name == "run.yaml"
        made.append((options["shard"], options["run_dir"]))
    assert [Shard.model_validate(shard) for shard, _ in made] == [
        Shard(index=at, of=TASKS) for at in range(1, TASKS + 1)
    ]
    assert len({folder for _, folder in made}) == TASKS
    # A run that must be started again ends the task with its own code.
    given(script, tmp_path, 5, CODE="5", **tasks[0])


def test_as_many_tasks_as_shards() -> None:
    assert re.search(r"^#SBATCH --array=1-8$", (SCALE / "shards.sbatch").read_text(), flags=re.M)
    job = read("kubernetes.yaml")["spec"]
    assert (job["completionMode"], job["completions"]) == ("Indexed", TASKS)
    assert read("skypilot.yaml")["num_nodes"] == TASKS


def test_the_merge_is_understood(tmp_path: Path) -> None:
    for at in range(1, TASKS + 1):
        (tmp_path / "shards" / str(at)).mkdir(parents=True)
    merge, export = given((SCALE / "merge.sbatch").read_text(), tmp_path)
    assert len(parsed(merge)["runs"]) == TASKS
    assert str(parsed(export)["run_dir"]) == str(parsed(merge)["out"]) == "whole"


def test_the_commands_of_the_page_are_understood() -> None:
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^\$? ?constitute (.*)$", text, flags=re.M)
    assert len(lines) >= 6
    for line in lines:
        parsed(line.split(" #")[0].split())
    for name in re.findall(r"\.\./examples/scale/([\w.]+)", text):
        assert (SCALE / name).is_file()
