"""The run directory: manifest, resolved configuration, whole files, and sessions over them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution, prompt

from constitute import __version__
from constitute.config import load_config
from constitute.constitution.read import constitution_hash, principle_hash
from constitute.constitution.write import to_yaml
from constitute.errors import RunMismatch, StorageError, UsageError
from constitute.files import write_text
from constitute.pipeline import run_stages
from constitute.store.manifest import versions
from constitute.templates import template_hash


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    path = tmp_path / "constitution.yaml"
    path.write_text(to_yaml(constitution()))
    return [f"constitution={path}", f"run={tmp_path / 'run'}", "generate.n=2"]


def test_the_manifest_says_what_made_the_rows(tmp_path: Path, sets: list[str]) -> None:
    config = load_config(None, sets)
    run_stages(config, ["generate", "revise"], prompts=[prompt("a"), prompt("b")], engine=ScriptedEngine())
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    whole = constitution()
    assert manifest["constitute"] == __version__
    assert manifest["constitution"]["hash"] == constitution_hash(whole)
    assert manifest["constitution"]["principles"] == {p.id: principle_hash(p) for p in whole.principles}
    revise = manifest["stages"]["revise"]
    assert revise["counts"] == {"ok": 4, "abstain": 0, "failed": 0}
    assert revise["settings"]["prompts"] == {name: template_hash(name) for name in ("critique", "revise")}
    assert revise["settings"]["model"]["name"] == "scripted"
    assert manifest["versions"] == versions() and "python" in versions()
    assert manifest["created"] <= manifest["updated"]
    saved = load_config(tmp_path / "run" / "config.yaml")
    assert saved == config


def test_a_refused_configuration_leaves_the_run_as_it_was(tmp_path: Path, sets: list[str]) -> None:
    run_stages(load_config(None, sets), ["generate"], prompts=[prompt("a")], engine=ScriptedEngine())
    files = [tmp_path / "run" / name for name in ("config.yaml", "manifest.json")]
    before = [path.read_text() for path in files]
    with pytest.raises(RunMismatch):
        run_stages(
            load_config(None, [*sets, "seed=9"]), ["generate"], prompts=[prompt("a")], engine=ScriptedEngine()
        )
    assert [path.read_text() for path in files] == before


def test_what_can_be_refused_is_refused_before_a_model_is_loaded(tmp_path: Path, sets: list[str]) -> None:
    with pytest.raises(UsageError, match="no model given"):
        run_stages(load_config(None, sets), ["generate"], prompts=[prompt("a")])
    absent = load_config(None, [*sets, "model=/no/such/model"])
    with pytest.raises(UsageError, match="no run in"):
        run_stages(absent, ["revise"])
    with pytest.raises(UsageError, match="no prompts given"):
        run_stages(absent, ["generate"])


def test_a_given_engine_is_left_open(tmp_path: Path, sets: list[str]) -> None:
    engine = ScriptedEngine()
    run_stages(load_config(None, sets), ["generate"], prompts=[prompt("a")], engine=engine)
    assert not engine.closed


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.json", "one")
    write_text(path, "two")
    assert path.read_text() == "two" and [p.name for p in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(StorageError, match="cannot write"):
        write_text(path / "b.json", "three")  # its folder is a file


async def test_a_session_runs_where_a_loop_is_running_already(tmp_path: Path, sets: list[str]) -> None:
    counts = run_stages(load_config(None, sets), ["generate"], prompts=[prompt("a")], engine=ScriptedEngine())
    assert counts["generate"].ok == 2
