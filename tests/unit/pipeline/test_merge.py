"""One run of several: the rows of a run that was never split, whatever order the parts are named in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted import constitution, prompt

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.config import load_config
from constitute.constitution.write import to_yaml
from constitute.data.export import export_run
from constitute.errors import RunMismatch, UsageError
from constitute.pipeline import run_stages
from constitute.pipeline.merge import merge_runs
from constitute.store import Store
from constitute.types import Comparison, Outcome

CHAIN = ["generate", "revise", "label"]


def run(folder: Path, name: str, ids: str, *sets: str) -> Path:
    """A run of the whole chain over one prompt a letter."""
    path = folder / "c.yaml"
    path.write_text(to_yaml(constitution()))
    given = [f"constitution={path}", f"run={folder / name}", "generate.n=3", "model=m", "engine.kind=fake"]
    run_stages(load_config(None, [*given, *sets]), CHAIN, prompts=[prompt(each) for each in ids])
    return folder / name


def rows(folder: Path) -> list[tuple[str, Outcome]]:
    with Store.open(folder, readonly=True) as store:
        return [(stage, outcome) for stage in store.stages() for outcome in store.outcomes(stage)]


def answers(folder: Path) -> list[object]:
    with Store.open(folder, readonly=True) as store:
        return sorted(store.read("SELECT key, stage, row_id, answer FROM answers"))


def test_parts_become_the_run_that_was_never_split(tmp_path: Path) -> None:
    whole = run(tmp_path, "whole", "abcd")
    # The first prompts of both parts, then the second ones.
    parts = [run(tmp_path, "a", "ac"), run(tmp_path, "b", "bd")]
    done = merge_runs(parts, tmp_path / "out")
    assert rows(tmp_path / "out") == rows(whole)
    assert answers(tmp_path / "out") == answers(whole)
    # 4 prompts x 3 samples; one pair of samples each.
    assert {stage: ended["ok"] for stage, ended in done.counts.items()} == {
        "generate": 12,
        "revise": 12,
        "label": 4,
    }
    exported = [
        [p.model_dump() for p in export_run(each, load_config().export)] for each in (whole, tmp_path / "out")
    ]
    assert [part["rows"] for part in exported[0]] == [part["rows"] for part in exported[1]]
    # A file is the same, byte by byte, whatever order the parts are named in.
    merge_runs(parts[::-1], tmp_path / "again")
    assert (tmp_path / "again" / "run.sqlite").read_bytes() == (tmp_path / "out" / "run.sqlite").read_bytes()


def test_the_merged_run_goes_on(tmp_path: Path) -> None:
    merge_runs([run(tmp_path, "a", "ac"), run(tmp_path, "b", "bd")], tmp_path / "out")
    config = load_config(tmp_path / "out" / "config.yaml")
    assert config.run == (tmp_path / "out").resolve()
    counts = run_stages(config, CHAIN, prompts=[prompt(each) for each in "abcde"])
    assert [(count.resumed, count.asked > 0) for count in counts.values()] == [
        (12, True),
        (12, True),
        (4, True),
    ]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["stages"]["generate"]["settings"]["generate"]["temperature"] == 1.0


def test_equal_rows_are_there_once_and_different_ones_are_refused_by_name(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", "abc"), run(tmp_path, "b", "bcd")
    merge_runs([a, b], tmp_path / "out")
    ids = [outcome.row_id for stage, outcome in rows(tmp_path / "out") if stage == "generate"]
    assert len(ids) == len(set(ids)) == 12
    with Store.open(b) as store:
        store.put_outcome("generate", Outcome(row_id="b/1", position=1, status="failed", reason="x"))
    with pytest.raises(RunMismatch, match=r"1 rows of .*b are in another .* differ: b/1 of generate; give"):
        merge_runs([a, b], tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_other_settings_one_run_and_a_run_in_the_way_are_refused(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", "a"), run(tmp_path, "b", "b", "generate.temperature=0.5")
    with pytest.raises(
        RunMismatch, match=r"generate rows with other settings: generate.temperature was 1.0, now 0.5"
    ):
        merge_runs([a, b], tmp_path / "out")
    with pytest.raises(UsageError, match="at least two different runs"):
        merge_runs([a, a], tmp_path / "out")
    with pytest.raises(UsageError, match="exists already"):
        merge_runs([a, b], a)


def test_pairs_of_ones_own_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(constitution()))

    def judged(name: str, ids: str) -> Path:
        sets = [f"constitution={path}", f"run={tmp_path / name}", "model=m", "engine.kind=fake"]
        pairs = [Comparison(id=f"q/{each}", prompt=prompt(each), a="yes", b="no") for each in ids]
        run_stages(load_config(None, sets), ["label"], pairs=pairs)
        return tmp_path / name

    parts = [judged("x", "zyx"), judged("y", "ab")]
    merge_runs(parts, tmp_path / "out")
    found = [(outcome.row_id, outcome.position) for _, outcome in rows(tmp_path / "out")]
    assert found == [("q/a", 0), ("q/z", 1), ("q/b", 2), ("q/y", 3), ("q/x", 4)]


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = run(tmp_path, "a", "a"), run(tmp_path, "b", "b")
    monkeypatch.setattr("sys.argv", ["constitute", "merge", str(a), str(b), "--out", str(tmp_path / "out")])
    assert run_and_exit(cli) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["generate", "6", "6", "0", "0"]
