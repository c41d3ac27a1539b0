"""The commands that ask a model take --config, and all that read a constitution honour `tags`."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from constitute.cli.constitution.group import constitution
from constitute.cli.main import COMMANDS, cli
from constitute.config import load_config
from constitute.errors import UsageError
from constitute.pipeline import run_stages
from constitute.types import Comparison, Message, Prompt

ASKING = ("new", "lint", "preview", "diff", "attribute", "compare")
FILE = """name: c
principles:
  - id: kind
    text: The reply should be {}.
    tags: [tone]
  - id: safe
    text: Give no doses of medicine.
    tags: [harm]
"""


def call(*words: str) -> tuple[int, list[dict]]:
    """Exit code and the JSON lines of a command."""
    done = CliRunner().invoke(constitution, [*words, "--json"], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value or 0, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two constitutions, prompts, a run.yaml for the fake engine, and a labelled run made by it."""
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(FILE.format("kind"))
    Path("b.yaml").write_text(FILE.format("very kind"))
    Path("p.jsonl").write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(6)))
    Path("run.yaml").write_text(
        "model: m\nconstitution: a.yaml\nprompts: p.jsonl\nengine: {kind: fake}\n"
        "label: {principles: all}\nrevise: {rounds: 2}\ntags: [harm]\n"
    )
    config = load_config(Path("run.yaml"), ["tags=[]"])
    asked = Prompt(id="q", messages=(Message(role="user", content="q?"),))
    run_stages(
        config, ["label"], pairs=[Comparison(id=f"p{n}", prompt=asked, a=f"x{n}", b="y") for n in range(5)]
    )
    return tmp_path


def test_every_command_that_asks_a_model_takes_a_configuration() -> None:
    context = click.Context(cli)
    for name in ASKING:
        command = constitution.get_command(context, name)
        assert command is not None
        assert "--config" in {opt for param in command.params for opt in param.opts}, name


def test_the_top_level_help_names_them() -> None:
    for name in ASKING[1:]:
        assert name in COMMANDS["constitution"][1]


def test_diff_compares_the_principles_of_the_tags(files: Path) -> None:
    assert [c["id"] for c in call("diff", "a.yaml", "b.yaml")[1][-1]["changes"]] == ["kind"]
    assert call("diff", "a.yaml", "b.yaml", "--set", "tags=[harm]")[1][-1]["changes"] == []
    assert call("diff", "a.yaml", "b.yaml", "--config", "run.yaml")[1][-1]["principles"] == [1, 1]
    effect = call("diff", "a.yaml", "b.yaml", "--run", "run", "--set", "tags=[tone]", "--dry-run")[1][-1]
    assert effect["questions"] == 2 * 5
    with pytest.raises(UsageError, match="has the tag 'odd'"):
        call("diff", "a.yaml", "b.yaml", "--set", "tags=[odd]")


def test_compare_uses_the_configuration_and_its_tags(files: Path) -> None:
    code, events = call("compare", "a.yaml", "b.yaml", "--config", "run.yaml")
    found = events[-1]
    # Under the tag the two hold the same principle: all revisions are the same.
    assert code == 0 and (found["prompts"], found["compared"], found["same"]) == (6, 6, 6)
    # A draft, then two rounds of critique and revision, which the second side is given from the store.
    assert (found["asked"], found["reused"]) == (6 * (1 + 4), 6 * 4)
    apart = call("compare", "a.yaml", "b.yaml", "--config", "run.yaml", "--set", "tags=[tone]")[1][-1]
    assert apart["same"] == 0


def test_preview_uses_the_configuration_and_its_tags(files: Path) -> None:
    code, events = call("preview", "a.yaml", "--config", "run.yaml", "-n", "8")
    shown = [event["after"] for event in events if event["event"] == "probe"]
    assert code == 0 and {each["principle_id"] for each in shown} == {"safe"}
    assert len(shown) == 6 and all(len(each["steps"]) == 2 for each in shown)
    both = call("preview", "a.yaml", "--config", "run.yaml", "-n", "8", "--set", "tags=[]")[1]
    assert {e["after"]["principle_id"] for e in both if e["event"] == "probe"} == {"kind", "safe"}


def test_lint_uses_the_configuration_and_its_tags(files: Path) -> None:
    code, found = call("lint", "a.yaml", "--config", "run.yaml")
    assert code == 0 and {each["principle"] for each in found[:-1]} == {"", "safe"}
    note, counts = call("lint", "a.yaml")[1]
    assert note["rule"] == "no-examples"
    assert counts == {"files": 1, "errors": 0, "warnings": 0, "notes": 1, "silenced": 0}


def test_attribute_and_new_use_the_configuration(files: Path) -> None:
    done = call("attribute", "run", "--fill", "--config", "run.yaml")[1][-1]
    # One principle under the tag: another constitution than the run's, so all is asked of it alone.
    assert [i["principle_id"] for i in done["influences"]] == ["safe"]
    out = CliRunner().invoke(
        constitution, ["new", "n.yaml", "--aim", "be kind", "--config", "run.yaml"], standalone_mode=False
    )
    assert out.return_value == 3 and "not written by the model: be kind" in out.stderr


def test_a_file_name_cannot_move_the_terminal(files: Path) -> None:
    Path("x\x1b[31m.yaml").write_text(FILE.format("kind"))
    done = CliRunner().invoke(constitution, ["set", "x\x1b[31m.yaml", "kind", "weight", "1"])
    assert "weight" in done.stderr and "\x1b" not in done.stderr
