"""Drafted examples: how answers are read, what is refused, and what is written into the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.constitution.write import to_yaml
from constitute.editing.draft import draft_examples, plain, read_draft
from constitute.engines import fake
from constitute.errors import RowError
from constitute.types import Completion, Constitution, Example, Request

ANSWER = "Prompt: How far is the moon?\nBetter: 384,000 km.\nWorse: Far.\nWhy: It says no number."
EXAMPLE = Example(
    prompt="How far is the moon?",
    better="384,000 km.",
    worse="Far.",
    critique="It says no number.",
    draft=True,
)


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        f"Sure! Here is a test:\n\n{ANSWER}\n\nLet me know if you need more.",
        f"{ANSWER}\nWhy: Because.\nPrompt: another",
        ANSWER.replace("\n", "\n\n").replace("Prompt:", "PROMPT :").replace("Why:", "why:"),
        ANSWER.replace("Prompt: How far is the moon?", '**Prompt:** "How far is the moon?"')
        .replace("Better:", "**Better reply:**").replace("Worse:", "**Worse reply:**")
        .replace("Why:", "**Why:**"),
        "1. Prompt: How far is the moon?\n2. Better:\n384,000 km.\n3. Worse: *Far.*\n"
        "- Why: It says no number.",
    ],
)  # fmt: skip
def test_answers_as_models_write_them(text: str) -> None:
    assert read_draft(text) == EXAMPLE


def test_a_part_may_have_several_lines() -> None:
    found = read_draft(ANSWER.replace("384,000 km.", "It is:\n- 384,000 km\n- or 1.3 light seconds"))
    assert found.better == "It is:\n- 384,000 km\n- or 1.3 light seconds"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "nothing under Prompt, Better, Worse, Why"),
        ("I cannot do that.", "nothing under Prompt, Better, Worse, Why"),
        ("Prompt: a\nBetter: b\nWhy: c", "nothing under Worse"),
        ("Prompt: a\nBetter:\nWorse: w\nWhy: c", "nothing under Better"),
        (f"Prompt: again\n{ANSWER}", "the label 'Prompt' twice"),
        (ANSWER.replace("Far.", "384,000 KM"), "its better and its worse answer are the same"),
        (ANSWER.replace("Far.", "Far\x07."), "its worse holds a control character"),
        (
            ANSWER.replace("384,000 km.", "the reply that keeps to it."),
            "its better is copied from the question",
        ),
        (ANSWER.replace("How far is the moon?", "How OLD is it"), "its prompt is that of another example"),
    ],
)
def test_what_is_no_example_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        read_draft(text, "Better: the reply that keeps to it.", {plain("How old is it?")})


class Writer(ScriptedEngine):
    """Drafts an example about the principle's name and the number of examples that it was told of."""

    def __init__(self) -> None:
        super().__init__("writer")
        self.seen: list[Request] = []

    async def generate(self, request: Request) -> Completion:
        self.seen.append(request)
        text = request.messages[-1].content
        name = text.split("Be ")[1].split(".")[0]
        n = text.count("\n- ")
        if name == "brief":
            return Completion(text="No.")
        if name == "cut":
            return Completion(text="Prompt: and", finish_reason="length")
        same = "the same" if name in ("twin", "twin2") else name
        return Completion(
            text=f"Prompt: {same} {n}?\nBetter: {name} yes {n}\nWorse: {name} no {n}\nWhy: Not {name}."
        )


def given(*names: str, **examples: tuple[Example, ...]) -> Constitution:
    found = constitution(*names)
    principles = tuple(p.model_copy(update={"examples": examples.get(p.id, ())}) for p in found.principles)
    return found.model_copy(update={"principles": principles})


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(run=tmp_path / "cache")


SHOWN = Example(prompt="Say it?", better="Yes, dear.", worse="No.", critique="Rude.")


def test_each_draft_is_told_of_those_before_it_and_shown_others(config: RunConfig) -> None:
    engine = Writer()
    rows = draft_examples(config, given("kind", "safe", safe=(SHOWN,)), 2, engine=engine)
    assert [(r.principle, r.number, r.example and r.example.prompt) for r in rows] == [
        ("kind", 1, "kind 0?"),
        ("kind", 2, "kind 1?"),
        ("safe", 2, "safe 1?"),
    ]
    assert all(r.example is not None and r.example.draft for r in rows)
    first, second = (r for r in engine.seen if "Be kind." in r.messages[-1].content)
    assert [m.role for m in first.messages] == ["user", "assistant", "user"]
    assert first.messages[1].content == "Prompt: Say it?\nBetter: Yes, dear.\nWorse: No.\nWhy: Rude."
    assert "- kind 0?" not in first.messages[-1].content and "- kind 0?" in second.messages[-1].content
    (third,) = (r for r in engine.seen if "Be safe." in r.messages[-1].content)
    # Its own example is told of and not shown as a turn.
    assert len(third.messages) == 1 and "- Say it?" in third.messages[0].content


def test_rows_that_fail_have_reasons_and_answers_are_kept(config: RunConfig) -> None:
    whole = given("kind", "brief", "cut", "twin", "twin2")
    rows = {r.principle: r.failed for r in draft_examples(config, whole, 1, engine=Writer())}
    assert rows == {
        "kind": "",
        "brief": "its answer has nothing under Prompt, Better, Worse, Why",
        "cut": "draft was cut at 512 tokens",
        "twin": "",
        "twin2": "it repeats a draft of another principle",
    }
    engine = Writer()
    draft_examples(config, whole, 1, engine=engine)
    # Only what was cut is no answer, and is asked again.
    assert len(engine.seen) == 1
    assert draft_examples(config, given("kind", kind=(SHOWN,)), 1, engine=engine) == []


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):  # type: ignore[no-untyped-def]
    from constitute.engines import ENGINES

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fake, "Writing", lambda model, config: Writer(), raising=False)
    monkeypatch.setitem(ENGINES, "writing", "constitute.engines.fake:Writing")

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["constitute", *line.split()])
        code = run_and_exit(cli)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


LINE = "constitution examples c.yaml --model m --set engine.kind=writing"


def test_drafts_are_written_into_the_file_and_kept_by_a_person(run) -> None:  # type: ignore[no-untyped-def]
    text = to_yaml(given("kind", "brief")) + "# the end\n"
    Path("c.yaml").write_text(text)
    code, out, err = run(LINE)
    assert (code, out) == (3, "")
    assert err.splitlines()[-3:] == [
        "not drafted: brief, example 1: its answer has nothing under Prompt, Better, Worse, Why",
        "not drafted: brief, example 2: its answer has nothing under Prompt, Better, Worse, Why",
        "c.yaml: 2 of 4 drafts written, 2 failed: another --seed asks again; read them, then: "
        "constitute constitution keep c.yaml",
    ]
    kind, brief = load_constitution("c.yaml").principles
    assert [example.draft for example in kind.examples] == [True, True] and brief.examples == ()
    assert Path("c.yaml").read_text().endswith("# the end\n")
    code, _, err = run(f"{LINE} --id brief")
    assert (
        code == 3
        and err.splitlines()[-1] == "c.yaml: 0 of 2 drafts written, 2 failed: another --seed asks again"
    )
    code, out, _ = run(f"{LINE} --id kind --json")
    assert (code, json.loads(out.splitlines()[-1])) == (0, {"event": "result", "drafted": 0, "failed": 0})
    code, _, err = run("constitution keep c.yaml --id brief")
    assert (code, err) == (0, "c.yaml: no draft there\n")
    assert run("constitution keep c.yaml") == (0, "", "c.yaml: 0 principles and 2 examples kept\n")
    assert [example.draft for example in load_constitution("c.yaml").principles[0].examples] == [False, False]
    assert json.loads(run("constitution keep c.yaml --json")[1]) == {"principles": 0, "examples": 0}


def test_a_packaged_file_cannot_be_written_into(run) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run(LINE.replace("c.yaml", "assistant"))
    assert code == 2 and "no such file: assistant; give one of yours" in err
