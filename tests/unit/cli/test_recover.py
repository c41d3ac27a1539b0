"""`constitution recover` from the command line: text, JSON, exit codes, and what does not go together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted import constitution

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.constitution.read import load_constitution
from constitute.constitution.write import to_yaml
from constitute.data.prompts import content_id
from constitute.engines.fake import FakeEngine
from constitute.store import Store
from constitute.types import Choice, Completion, Message, Request

LINE = "constitution recover c.yaml --model m --set engine.kind=fake --pairs pairs.jsonl"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(to_yaml(constitution("kind", "safe")))
    lines = [
        {"id": f"q{i}", "prompt": f"Q{i}?\x1b[31m", "chosen": f"good {i}", "rejected": f"bad {i}, {i}"}
        for i in range(40)
    ]
    lines.append({"prompt": "Q", "chosen": "same", "rejected": "same"})
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["constitute", *line.split()])
        code = run_and_exit(cli)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine votes against the good answer under `kind`, and says nothing under any other principle."""

    async def choose(self, request: Request, labels, *, spelled: bool = False) -> Choice:  # type: ignore
        text = request.messages[-1].content
        against = "kind" in text.rpartition("(B)")[2] and "(A) good" in text
        towards = "kind" in text.rpartition("(B)")[2] and "(A) bad" in text
        rule = "goodness" in text.rpartition("(B)")[2]
        if rule:
            against, towards = "(A) bad" in text, "(A) good" in text
        values = (-2.3, -0.2) if against else (-0.2, -2.3) if towards else (-0.7, -0.7)
        return Choice(labels=tuple(labels), logprobs=values)

    async def generate(self, request: Request) -> Completion:  # type: ignore
        return Completion(text="Rule: Show some goodness to people.\nSorry.")

    monkeypatch.setattr(FakeEngine, "choose", choose)
    monkeypatch.setattr(FakeEngine, "generate", generate)


def test_nothing_explained_is_exit_code_4_and_shows_pairs(run, judged) -> None:
    code, out, _ = run(f"{LINE} --show 2")
    assert code == 4
    assert "40 pairs of 40 prompts, 20 to fit on, 20 held out\nleft out: 1 with equal answers" in out
    assert (
        "no principle speaks for the preferred answer: 1.00 (0.91 to 1.00, n = 40) of all pairs; 0 that"
        in out
    )
    assert out.count("preferred: good ") == 2 and "\x1b" not in out
    row = next(line for line in out.splitlines() if line.startswith("kind"))
    assert "against" in row and row.split()[1] == "0.00"
    assert "every fitted weight is 0: in training no principle goes with the preferences" in out
    assert "neither a principle nor all together" in out and "'shorter wins' (1.00)" in out
    assert out.splitlines()[-1].startswith("m: 160 questions asked, 0 answered from the store")
    code, out, _ = run(f"{LINE} --json")
    result = json.loads(out.splitlines()[-1])
    assert (code, result["asked"], result["reused"], result["explained"]) == (4, 0, 160, False)
    assert [row["finding"] for row in result["alone"]] == ["against", "unclear"]
    assert result["shown"][0]["preferred"].startswith("good ") and len(result["shown"]) == 5


def test_a_proposed_rule_that_holds_is_written(run, judged) -> None:
    code, out, err = run(f"{LINE} --propose --out found.yaml")
    assert code == 0, out
    assert "wrote found.yaml" in err and "1 rule proposed from 4 questions" in out
    assert "left out: 4 x a line that is no item of a list" in out
    found = load_constitution("found.yaml").principles
    assert [(p.id, p.text, p.draft) for p in found] == [
        ("show-some-goodness-to-people", "Show some goodness to people.", True)
    ]
    code, _, err = run(f"{LINE} --propose --out found.yaml")
    assert code == 2 and "found.yaml exists already" in err


def test_before_and_after(run, judged) -> None:
    for name, word in (("before", "bad"), ("after", "good")):
        rows = ({"prompt": f"Q{i}?", "response": f"{word} {i}"} for i in range(12))
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = LINE.replace("--pairs pairs.jsonl", "--before before.jsonl --after after.jsonl")
    code, out, _ = run(line)
    assert code == 0
    assert "12 pairs of answers to 12 prompts" in out and "change 0.0 (0.0 to 0.0, n = 12)" in out
    assert next(line for line in out.splitlines() if line.startswith("kind")).split()[-2:] == ["away", "0"]
    result = json.loads(run(f"{line} --json")[1].splitlines()[-1])
    assert [(row["principle_id"], row["direction"]) for row in result["moved"]] == [
        ("safe", "unclear"),
        ("kind", "away"),
    ]


def test_bad_lines_are_refused_or_counted(run, judged) -> None:
    with Path("pairs.jsonl").open("a") as file:
        file.write("{broken\n")
    code, _, err = run(LINE)
    assert code == 2 and "pairs.jsonl:42" in err and "--skip-bad" in err
    code, out, err = run(f"{LINE} --skip-bad")
    assert code == 4 and "skipped 1 bad line, the first at pairs.jsonl:42" in err and "40 pairs of" in out


def test_two_models_answer_the_same_prompts(run, monkeypatch) -> None:

    async def generate(self, request: Request) -> Completion:  # type: ignore
        return Completion(text=f"{self.identity.name} {request.sampling.seed} {request.messages[-1].content}")

    monkeypatch.setattr(FakeEngine, "generate", generate)
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Q{i}?"}) + "\n" for i in range(12)))
    line = LINE.replace("--pairs pairs.jsonl", "--before one --after two --prompts prompts.jsonl")
    code, out, _ = run(line)
    assert code == 0 and "12 pairs of answers to 12 prompts" in out
    with Store.open(".constitute", readonly=True) as store:
        said = [
            answer["text"].split()
            for at in range(12)
            for prompt in [content_id([Message(role="user", content=f"Q{at}?")])]
            for stage, _, answer in store.answers_of(f"{prompt}/0")
            if stage == "answer"
        ]
    # The same seed for both models, and another for each prompt.
    assert sorted({name for name, *_ in said}) == ["one", "two"]
    assert len(said) == 24 and len({(seed, ask) for _, seed, ask in said}) == 12


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("", "give what is to be explained: --pairs FILE, or --run RUN, or --before X --after Y"),
        ("--pairs pairs.jsonl --run r", "give what is to be explained"),
        ("--before b", "--before and --after go together"),
        ("--pairs pairs.jsonl --target human", "--target says what to explain of a run"),
        ("--pairs pairs.jsonl --prompts p", "--prompts are answered by two models"),
        ("--pairs pairs.jsonl --out o.yaml", "--out takes the rules that --propose finds"),
        ("--before a --after b --propose", "--propose reads pairs with a preference"),
        ("--pairs pairs.jsonl -n 10", "5 pairs to fit on and 5 held out"),
        ("--pairs pairs.jsonl --method choise", "no such label.method: 'choise'"),
        ("--pairs nothing.jsonl", "no such file: nothing.jsonl"),
        ("--run nothing", "nothing"),
    ],
)
def test_options_that_cannot_be(run, options: str, part: str) -> None:
    code, _, err = run(f"constitution recover c.yaml --model m --set engine.kind=fake {options}")
    assert code == 2 and part in err
