"""`--retry-failed` with the setting that reasons blame: those rows alone are made with it, as is noted."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from scripted import constitution

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.cli.run import remedies
from constitute.constitution.write import to_yaml
from constitute.store import Store
from constitute.types import Outcome

FAKE = "--model m --set engine.kind=fake"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(to_yaml(constitution()))
    prompts = [json.dumps({"id": f"p{n}", "prompt": f"Question {n}?"}) for n in range(20)]
    Path("p.jsonl").write_text("\n".join(prompts) + "\n")

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["constitute", *shlex.split(line)])
        code = run_and_exit(cli)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


def rows(stage: str) -> dict[str, tuple[str, object, object]]:
    with Store.open("run", readonly=True) as store:
        return {o.row_id: (o.status, o.reason, o.data) for o in store.outcomes(stage)}


def printed(err: str) -> str:
    """The repairing command that was printed, without the program's name."""
    found = re.findall(r"`constitute ([^`]* --retry-failed [^`]*)`", err)
    assert found, err
    return str(found[-1])


def counted(out: str) -> list[int]:
    """Rows, ok, abstain, failed, done before, asked, from store."""
    return [int(cell) for cell in out.splitlines()[1].split()[1:]]


def test_the_printed_command_repairs_the_cut_rows_and_keeps_the_others(run) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run(f"generate {FAKE} --prompts p.jsonl --set generate.max_tokens=14")
    total, _, _, failed, *_ = counted(out)
    assert code == 3 and 0 < failed < total == 20
    before = rows("generate")
    asked = 0
    while code == 3:
        cut = counted(out)[3]
        code, out, err = run(printed(err))
        asked += cut
        # What is said on the way counts each row once: those that stay are done before.
        assert f"generate: 20 rows, {20 - cut} done before" in err and "of 20 rows" in err
        assert not any(int(done) > 20 for done in re.findall(r"generate: (\d+) of 20", err))
        # Only the rows that were cut are asked again.
        assert counted(out)[4:6] == [20 - cut, cut]
    assert code == 0
    after = rows("generate")
    assert {name for name in before if before[name] == after[name]} == {
        name for name, (status, *_) in before.items() if status == "ok"
    }
    stage = json.loads(Path("run/manifest.json").read_text())["stages"]["generate"]
    assert stage["settings"]["generate"]["max_tokens"] == 14
    assert sum(each["rows"] for each in stage["mended"]) == failed
    assert {each["settings"]["max_tokens"] for each in stage["mended"]} == {28}
    _, out, _ = run("rows --json")
    listed = {row["id"]: row["made_with"] for row in map(json.loads, out.splitlines())}
    assert listed == {
        name: None if status == "ok" else {"max_tokens": 28} for name, (status, *_) in before.items()
    }
    # The run goes on with the settings that it began with, and the repair may be typed again.
    assert counted(run("generate")[1])[:6] == [20, 20, 0, 0, 20, 0]
    again = run("generate --retry-failed --set generate.max_tokens=28")
    assert (again[0], counted(again[1])[5]) == (0, 0)


def test_what_run_prints_repairs_each_stage_when_it_is_typed(run) -> None:  # type: ignore[no-untyped-def]
    run(f"generate {FAKE} --prompts p.jsonl -n 2 --set generate.max_tokens=14")
    run("label --constitution c.yaml --set label.min_mass=0.95")
    ok = {name for name, (status, *_) in rows("generate").items() if status == "ok"}
    pairs = len(rows("label"))
    assert 0 < len(ok) < 40 and pairs
    told = list(remedies(Path("run"), ("generate", "label")))
    assert [sentence.partition(":")[0] for sentence in told[:-1]] == ["generate", "label"]
    assert "this command with --run NEW --reuse run" not in told[0]
    for sentence in told[:-1]:
        code, out, _ = run(printed(sentence))
        assert code in (0, 3)
        assert counted(out)[4] == {"generate": len(ok), "label": 0}[sentence.partition(":")[0]]
    assert sum(status == "ok" for status, *_ in rows("generate").values()) > len(ok)
    # Pairs that the repaired responses made are labelled with the stage's own settings.
    assert sum(status == "ok" for status, *_ in rows("label").values()) == pairs
    with Store.open("run") as store:
        store.put_outcome("label", Outcome(row_id="x", position=99, status="failed", reason="refused"), "")
    *_, other, _ = remedies(Path("run"), ("label",))
    assert other == (
        "label: 1 rows failed; `constitute label --run run --retry-failed` asks them again; where a setting "
        "is to blame, begin a run NEW that asks again only what changed: this command with --run NEW "
        "--reuse run"
    )


def test_another_setting_is_refused_as_before(run) -> None:  # type: ignore[no-untyped-def]
    run(f"generate {FAKE} --prompts p.jsonl --set generate.max_tokens=14")
    for changed in ("generate.temperature=0.5", "generate.max_tokens=13", "seed=3"):
        code, _, err = run(f"generate --retry-failed --set {changed}")
        assert code == 2 and "made with other settings" in err, changed
    # Without --retry-failed the setting is refused too.
    code, _, err = run("generate --set generate.max_tokens=400")
    assert code == 2 and "generate.max_tokens was 14, now 400" in err


def test_rows_that_never_ended_get_the_stages_own_settings(run) -> None:  # type: ignore[no-untyped-def]
    run(f"generate {FAKE} --prompts p.jsonl --set generate.max_tokens=14 --limit 10")
    cut = sum(status == "failed" for status, *_ in rows("generate").values())
    _, out, _ = run("generate --retry-failed --set generate.max_tokens=400")
    stage = json.loads(Path("run/manifest.json").read_text())["stages"]["generate"]
    assert counted(out)[0] == 20
    assert [(each["status"], each["rows"]) for each in stage["mended"]] == [("ok", cut)]
    assert all("cut at 14" in str(why) for status, why, _ in rows("generate").values() if status == "failed")


def test_cut_answers_are_kept_where_that_is_asked_for(run) -> None:  # type: ignore[no-untyped-def]
    run(f"generate {FAKE} --prompts p.jsonl --set generate.max_tokens=14")
    code, out, _ = run("generate --retry-failed --set generate.keep_truncated=true")
    assert (code, counted(out)[:4]) == (0, [20, 20, 0, 0])


def test_pairs_of_low_mass_are_taken_without_a_question(run) -> None:  # type: ignore[no-untyped-def]
    run(f"generate {FAKE} --prompts p.jsonl -n 2")
    # The fake judge gives A and B 0.9 together.
    _, out, err = run("label --constitution c.yaml --set label.min_mass=0.95")
    assert counted(out)[:4] == [20, 0, 20, 0] and "20 pairs abstained" in err
    _, out, err = run(printed(err))
    assert counted(out) == [20, 20, 0, 0, 0, 0, 40]
    stage = json.loads(Path("run/manifest.json").read_text())["stages"]["label"]
    assert stage["mended"] == [{"settings": {"min_mass": 0.891}, "status": "ok", "rows": 20}]


@pytest.mark.parametrize("pairs", ["samples", "revision", "best_worst"])
def test_rows_that_no_longer_come_are_not_counted_until_they_are_repaired(run, pairs) -> None:
    Path("run.yaml").write_text(
        "model: m\nprompts: p.jsonl\nconstitution: c.yaml\nengine: {kind: fake}\n"
        "generate: {n: 3, max_tokens: 14}\nrevise: {rounds: 1, max_tokens: 400}\n"
        f"label: {{pairs: {pairs}}}\n"
    )
    words = "run run.yaml --until data --run run"
    first = run(words)[2]
    ended = {stage: len(rows(stage)) for stage in ("generate", "revise", "label")}
    assert ended["revise"] < ended["generate"] == 60
    lost = 60 - ended["revise"]
    assert f"revise: {ended['revise']} of 60 rows, {lost} did not come this far, " in first
    again = run(words)[2]
    for stage, count in ended.items():
        assert f"{stage}: {count} rows, {count} done before\n" in again
        assert f"{stage}: {count} of {count} rows, in " in again
    # A row that is asked again may go further.
    run(printed(first))
    left = sum(status != "ok" for status, *_ in rows("generate").values())
    assert left < lost and f"revise: {60 - left} rows, {ended['revise']} done before" in run(words)[2]
