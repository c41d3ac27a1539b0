"""What CONTRIBUTING.md says to add, added from a module of its own, with nothing else touched, and run."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from places import ROOT
from registry_examples import add_module, example
from scripted import ScriptedEngine, constitution, prompt

from constitute.cli.main import cli
from constitute.config import load_config
from constitute.constitution.write import to_yaml
from constitute.errors import UsageError
from constitute.pipeline import run_stages
from constitute.progress import Silent
from constitute.runners import RUNNERS, runner_of
from constitute.stages import STAGES
from constitute.stages.labels import LABEL_METHODS
from constitute.store import Store
from constitute.types import LabelledPair


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    add_module(monkeypatch, "short_stage", example("A stage"))
    monkeypatch.setitem(STAGES, "short", "short_stage:STAGE")


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(constitution()), encoding="utf-8")
    return [f"constitution={file}", f"run={tmp_path / 'run'}", "generate.n=2", "label.pairs=both"]


CHAIN = "chain=[generate, short, revise, label]"


def test_a_filter_becomes_an_entry_of_the_chain(short: None, settings: list[str], tmp_path: Path) -> None:
    config = load_config(None, [*settings, CHAIN, "stages.short.most=20"])
    given = [prompt(f"p{at}") for at in range(20)]
    counts = run_stages(config, config.chain, prompts=given, engine=ScriptedEngine())
    with Store.open(tmp_path / "run", readonly=True) as store:
        made = [row.data["response"] for row in store.outcomes("generate", "ok") if row.data]
        kept = {row.row_id for row in store.outcomes("short", "ok")}
        labelled = {row.row_id for row in store.outcomes("label")}
        assert store.reasons("short") == [
            ("abstain", "the response has more than 20 characters", counts["short"].abstain)
        ]
    wanted = sum(len(text) <= 20 for text in made)
    assert 0 < wanted == counts["short"].ok == counts["revise"].total < 40 == counts["short"].total
    both = sum({f"p{at}/0", f"p{at}/1"} <= kept for at in range(20))
    assert len(labelled) == wanted + both and both > 0
    again = run_stages(config, config.chain, prompts=given, engine=ScriptedEngine())
    assert (again["short"].resumed, again["short"].asked) == (40, 0)


def test_the_stage_runs_by_its_own_command_on_the_rows_before_it(
    short: None, settings: list[str], tmp_path: Path
) -> None:
    config = load_config(None, [*settings, CHAIN, "engine.kind=fake"])
    run_stages(config, ["generate"], prompts=[prompt("p")], engine=ScriptedEngine())
    words = ["short", "--run", str(tmp_path / "run"), "--model", "x", "--set", "stages.short.most=4"]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert (done.exception, done.return_value) == (None, 0)
    assert "more than 4 characters" in done.output and "next: constitute revise" in done.output
    assert "short" in CliRunner().invoke(cli, ["nonsense"]).output


@pytest.mark.parametrize(
    ("sets", "part"),
    [
        (["stages.short.most=many"], "stages.short: most"),
        (["stages.short.least=3"], "known settings: most"),
        (["chain=[generate, shrot, label]"], "no such stage: 'shrot'; did you mean 'short'?"),
        (["chain=[label, generate]"], "label → generate is no chain"),
        (["label.method=chioce"], "no such label.method: 'chioce'; did you mean 'choice'?"),
    ],
)
def test_what_a_chain_cannot_be(short: None, settings: list[str], sets: list[str], part: str) -> None:
    config = load_config(None, [*settings, CHAIN, *sets])
    with pytest.raises(UsageError, match="(?s)" + part.replace("?", r"\?")):
        run_stages(config, config.chain, prompts=[prompt("p")], engine=ScriptedEngine())


def test_a_label_method_is_one_function(
    monkeypatch: pytest.MonkeyPatch, settings: list[str], tmp_path: Path
) -> None:
    add_module(monkeypatch, "by_length", example("A label method"))
    monkeypatch.setitem(LABEL_METHODS, "by_length", "by_length:METHOD")
    config = load_config(None, [*settings, "label.method=by_length", "label.principles=all"])
    run_stages(config, config.chain, prompts=[prompt("p"), prompt("q")], engine=ScriptedEngine())
    with Store.open(tmp_path / "run", readonly=True) as store:
        rows = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
    assert rows
    for row in rows:
        shorter_first = len(row.comparison.a) < len(row.comparison.b)
        assert row.label.p_a == pytest.approx(0.9 if shorter_first else 0.1)


def test_a_runner_leaves_the_rows_of_one_process(
    monkeypatch: pytest.MonkeyPatch, settings: list[str], tmp_path: Path
) -> None:
    add_module(monkeypatch, "halves_runner", example("A runner"))
    monkeypatch.setitem(RUNNERS, "halves", "halves_runner:run")
    given, rows = [prompt(f"p{at}") for at in range(7)], {}
    for name in ("local", "halves"):
        sets = [*settings, f"run={tmp_path / name}", "model=m", "engine.kind=fake"]
        counts = runner_of(name)(load_config(None, sets), given, progress=Silent())
        with Store.open(tmp_path / name, readonly=True) as store:
            rows[name] = store.read("SELECT * FROM outcomes ORDER BY stage, position, row_id")
    assert rows["halves"] == rows["local"] and counts["generate"].resumed == 8
    with pytest.raises(UsageError, match=r"no such runner.on: 'halvs'; did you mean 'halves'\?"):
        runner_of("halvs")


def test_every_example_of_contributing_is_run_by_a_test() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## To add something")[1]
    headings = [part.split("\n")[0] for part in text.split("\n### ")[1:] if "```python" in part]
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(headings) >= 9
    assert [heading for heading in headings if f'example("{heading}")' not in tests] == []
