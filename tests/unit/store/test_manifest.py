"""The run directory: manifest, resolved configuration, whole files, and sessions over them."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution, prompt

from constitute import __version__
from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.config import load_config
from constitute.constitution.identity import constitution_hash, principle_hash
from constitute.constitution.write import to_yaml
from constitute.errors import RunMismatch, StorageError, UsageError
from constitute.files import write_text
from constitute.pipeline import run_stages
from constitute.report.read import read_run
from constitute.store import Store
from constitute.store.manifest import (
    claim,
    differences,
    kept_constitution,
    save_config,
    versions,
    write_manifest,
)
from constitute.templates import template_hash
from constitute.types import Completion, Outcome, Request


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
    assert saved.engine.date == date.today().isoformat()
    undated = saved.engine.model_copy(update={"date": None})
    assert saved.model_copy(update={"engine": undated}) == config


def test_a_setting_that_is_newer_than_the_rows_had_its_default(tmp_path: Path, sets: list[str]) -> None:
    config = load_config(None, sets)
    engine = ScriptedEngine()
    run_stages(config, ["generate"], prompts=[prompt("a")], engine=engine)
    with Store.open(tmp_path / "run") as store:
        noted = store.meta("stage:generate")
        assert isinstance(noted, dict)
        older = {key: value for key, value in noted["generate"].items() if key != "keep_truncated"}
        store.put_meta("stage:generate", {**noted, "generate": older})
    done = run_stages(config, ["generate"], prompts=[prompt("a")], engine=ScriptedEngine())
    assert done["generate"].ok == 2
    with Store.open(tmp_path / "run") as store:
        store.put_meta("stage:generate", {**noted, "generate": older})
    changed = load_config(None, [*sets, "generate.keep_truncated=true"])
    with pytest.raises(RunMismatch, match="keep_truncated was false, now true"):
        run_stages(changed, ["generate"], prompts=[prompt("a")], engine=ScriptedEngine())


def test_a_run_is_as_old_as_its_first_stage(tmp_path: Path, sets: list[str]) -> None:
    class Slow(ScriptedEngine):
        """Notes when it is first asked."""

        first = ""

        async def generate(self, request: Request) -> Completion:
            self.first = self.first or datetime.now(UTC).isoformat(timespec="seconds")
            await asyncio.sleep(0.6)
            return await super().generate(request)

    engine = Slow()
    config = load_config(None, [*sets, "engine.in_flight=1"])
    run_stages(config, ["generate"], prompts=[prompt("a"), prompt("b")], engine=engine)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["created"] <= engine.first < manifest["updated"]


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


def test_a_report_finds_the_principles_from_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "constitutions").mkdir(parents=True)
    elsewhere.mkdir()
    (home / "mine.yaml").write_text(to_yaml(constitution()))
    (home / "constitutions" / "named.yaml").write_text(to_yaml(constitution()))
    (home / "earlier").mkdir()
    for name in ("mine.yaml", "named"):
        monkeypatch.chdir(home)
        run = home / f"run-{name}"
        config = load_config(None, [f"constitution={name}", f"run=run-{name}"])
        run_stages(config, ["generate"], prompts=[prompt("a")], engine=ScriptedEngine())
        monkeypatch.chdir(elsewhere)
        manifest = json.loads((run / "manifest.json").read_text())
        file = {"mine.yaml": home / "mine.yaml", "named": home / "constitutions" / "named.yaml"}[name]
        assert manifest["config"]["constitution"] == str(file)
        assert load_config(run / "config.yaml").constitution == str(file)
        file.unlink()
        found = read_run(run)
        assert (found.constitution, found.constitution_note) == (constitution(), "")


def test_a_packaged_constitution_keeps_its_name_and_other_files_are_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_text("")
    config = load_config(
        None, ["constitution=pocket/harmless", "prompts=p.jsonl", "reuse=old", "model=pocket"]
    )
    saved = load_config(save_config(tmp_path / "run", config))
    assert (saved.constitution, saved.model) == ("pocket/harmless", "pocket")
    assert (saved.prompts, saved.reuse) == (str(tmp_path / "p.jsonl"), tmp_path / "old")


def test_a_kept_constitution_that_was_changed_is_none(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        write_manifest(store, load_config(), constitution())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert kept_constitution(manifest) == constitution()
    manifest["constitution"]["document"]["principles"][0]["text"] += " Or not."
    assert kept_constitution(manifest) is None
    for broken in ({}, {"constitution": None}, {"constitution": 3}, {"constitution": {"document": [1]}}):
        assert kept_constitution(broken) is None


def test_a_refusal_shows_old_and_new_values_and_away_on_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(to_yaml(constitution()))
    Path("p.jsonl").write_text("".join(f'{{"id": "p{n}", "prompt": "Question {n}?"}}\n' for n in range(3)))

    def call(line: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["constitute", *shlex.split(line)])
        code = run_and_exit(cli)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    assert call("generate --model m --set engine.kind=fake --prompts p.jsonl")[0] == 0
    assert call("revise --constitution c.yaml")[0] == 0
    code, said = call("revise --set revise.max_tokens=200")
    assert code == 2 and "revise.max_tokens was 256, now 200" in said
    first = re.findall("`constitute (.*?)`", said)
    assert first == ["generate --config run/config.yaml --run NEW --reuse run"]
    assert "then this command with --run NEW --reuse run" in said
    code, said = call(first[0] + " --json")
    assert code == 0 and json.loads(said.splitlines()[-1])["reused"] == 3
    code, said = call("revise --set revise.max_tokens=200 --run NEW --reuse run --json")
    assert code == 0 and json.loads(said.splitlines()[-1])["asked"] == 6


def test_long_values_are_shown_where_they_differ(tmp_path: Path) -> None:
    old, new = "x" * 200 + "old" + "y" * 200, "x" * 200 + "new" + "y" * 200
    with Store.open(tmp_path) as store:
        claim(store, "generate", {"generate": {"system": old}})
        store.put_outcome("generate", Outcome(row_id="a", position=0, status="ok", data={}))
        with pytest.raises(RunMismatch) as caught:
            claim(store, "generate", {"generate": {"system": new, **{f"k{n}": n for n in range(9)}}})
    said = str(caught.value)
    assert "generate.k0 was null, now 0" in said and "; and 2 more;" in said
    with Store.open(tmp_path) as store, pytest.raises(RunMismatch) as caught:
        claim(store, "generate", {"generate": {"system": new}})
    assert re.search("system was …x+oldy+…, now …x+newy+…;", str(caught.value))


def test_a_refusal_begins_with_what_was_set_and_leaves_out_what_follows() -> None:
    """A method asks with other templates, and another model has another fingerprint: neither is said."""
    before = {
        "label": {"method": "choice", "n": 1},
        "model": {"engine": "vllm", "name": "m", "fingerprint": "1a"},
        "constitution": "0c",
        "prompts": {"compare": "c226b"},
    }
    likelihood = {"label": {"method": "likelihood"}, "prompts": {"follow": "9f"}}
    assert differences(before, {**before, **likelihood, "label": {"method": "likelihood", "n": 2}}) == (
        "label.method was choice, now likelihood; label.n was 1, now 2"
    )
    other = {"engine": "vllm", "name": "other", "fingerprint": "2b"}
    assert differences(before, {**before, "model": other, "constitution": "1d", "seed": 3}) == (
        'seed was null, now 3; constitution was "0c", now "1d"; model.name was m, now other'
    )
    # Where nothing was set, what was made says it: weights under the same name, the words of a template.
    same = {**before, "model": {**before["model"], "fingerprint": "2b"}, "prompts": {"compare": "d1"}}
    assert differences(before, same) == (
        'model.fingerprint was "1a", now "2b"; prompts.compare was c226b, now d1'
    )
    assert differences(before, {**before, "prompts": {}}) == "prompts.compare was c226b, now null"
