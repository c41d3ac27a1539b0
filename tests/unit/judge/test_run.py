"""`constitute judge`: pairs and copies as they are asked, resuming, advice and exit codes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.config import RunConfig
from constitute.constitution.write import to_yaml
from constitute.data.pairs import read_pairs
from constitute.engines import ENGINES
from constitute.errors import EngineError, GateFailed, UsageError
from constitute.judge.copies import neutral_copies, swapped_copies
from constitute.judge.run import compare_methods, questions, require_advice
from constitute.pipeline import run_stages
from constitute.stages.labels import LABEL_METHODS
from constitute.stages.labels.base import LabelMethod
from constitute.stages.labels.candidates import candidates
from constitute.types import Choice, Comparison, Example, PrincipleVote, Request


class Judge(ScriptedEngine):
    """Prefers the answer that holds `good`, or the first in the layout `paper`; dies after some answers."""

    def __init__(self, die_after: int = 10**9) -> None:
        super().__init__("judge")
        self.answered = 0
        self._die_after = die_after

    async def choose(self, request: Request, labels, *, spelled: bool = False) -> Choice:
        if self.answered >= self._die_after:
            raise EngineError("gone")
        self.answered += 1
        text = request.messages[-1].content
        paper = text.index("Which is more") < text.index("(A)")
        places = [text.find(word) for word in ("good", "bad")]
        share = 0.6 + 0.3 * (self._hash(text) % 100) / 100
        if paper or -1 in places:
            first = share if paper else 0.5
        else:
            first = share if places[0] < places[1] else 1 - share
        return Choice(labels=tuple(labels), logprobs=(math.log(0.9 * first), math.log(0.9 * (1 - first))))

    @staticmethod
    def _hash(text: str) -> int:
        return sum(text.encode())


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    (tmp_path / "c.yaml").write_text(to_yaml(constitution()))
    lines = [
        {"id": f"q{i}", "prompt": f"Q{i}?", "chosen": f"good {i}", "rejected": f"bad {i} and long"}
        for i in range(60)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return RunConfig(constitution=str(tmp_path / "c.yaml"), run=tmp_path / "judge-run")


def asked(config: RunConfig, n: int = 40):
    pairs, _ = read_pairs(config.run.with_name("pairs.jsonl"))
    return questions(config, pairs, n)


TRIED = [("choice", "shared"), ("choice", "paper")]


def test_the_layout_that_agrees_with_people_is_advised(config):
    engine = Judge()
    found = compare_methods(config, asked(config), TRIED, engine=engine)
    shared, paper = found.figures
    assert (found.pairs, found.judged, found.advice.method, found.advice.layout) == (
        40,
        40,
        "choice",
        "shared",
    )
    assert shared.agreement is not None and shared.agreement.accuracy.value == 1.0
    assert paper.verdict is not None and paper.verdict.kind == "order" and shared.verdict is None
    assert shared.card.longer.value == 0.0 and shared.card.longer_human.value == 0.0
    # Neutral copies hold the same answer twice, and swapped ones mirror.
    assert (shared.neutral.value, shared.swapped.value, shared.steady.n) == (1.0, 1.0, 40)
    assert shared.requests == 80
    assert engine.answered == 2 * (80 + 40 + 40)
    assert json.loads((config.run / "judge.json").read_text())["advice"]["method"] == "choice"
    require_advice(found)


def test_a_judge_that_sees_the_order_alone_is_refused(config):
    found = compare_methods(config, asked(config), [("choice", "paper")], engine=Judge())
    with pytest.raises(GateFailed, match=r"none of them tells good answers from bad: choice, paper"):
        require_advice(found)


def test_a_comparison_that_was_stopped_goes_on_and_ends_the_same(config, tmp_path):
    whole = compare_methods(
        config.model_copy(update={"run": tmp_path / "whole"}), asked(config), TRIED, engine=Judge()
    )
    with pytest.raises(EngineError):
        compare_methods(config, asked(config), TRIED, engine=Judge(die_after=100))
    engine = Judge()
    again = compare_methods(config, asked(config), TRIED, engine=engine)
    assert engine.answered == 320 - 100
    drop = {"figures": {"__all__": {"seconds"}}}
    assert again.model_dump(exclude=drop) == whole.model_dump(exclude=drop)


def test_labelling_reuses_what_the_comparison_asked(config, tmp_path):
    questioned = asked(config)
    compare_methods(config, questioned, [("choice", "shared")], engine=Judge())
    engine = Judge()
    later = config.model_copy(update={"run": tmp_path / "run", "reuse": config.run})
    counts = run_stages(later, ["label"], pairs=questioned.pairs, engine=engine)["label"]
    assert (counts.ok, counts.asked, counts.reused, engine.answered) == (40, 0, 80, 0)


def test_pairs_are_drawn_by_the_seed(config):
    first, again = asked(config, 10), asked(config, 10)
    other = asked(config.model_copy(update={"seed": 1}), 10)
    ids = [pair.id for pair in first.pairs]
    assert ids == [pair.id for pair in again.pairs] != [pair.id for pair in other.pairs]
    assert len(ids) == 10 and ids != [f"q{i}" for i in range(10)]


def test_copies(config):
    pairs = list(asked(config).pairs[:2])
    long_first, long_second = neutral_copies(pairs)
    assert (
        long_first.a == f"{pairs[0].a} I hope that this answers your question." and long_first.b == pairs[0].a
    )
    assert (long_second.a, len(long_second.b) > len(long_second.a)) == (pairs[1].a, True)
    assert long_first.human is None
    (swapped, _) = swapped_copies(pairs)
    assert (swapped.id, swapped.a, swapped.human) == (pairs[0].id, pairs[0].b, 0.0)


def test_names_that_do_not_exist(config):
    with pytest.raises(UsageError, match="no such label method: 'choise'"):
        candidates(["choise"], ["shared"])
    with pytest.raises(UsageError, match="no such layout: 'papr'"):
        candidates(["choice"], ["papr"])
    with pytest.raises(UsageError, match="no examples to ask a judge about; give pairs with --pairs FILE"):
        questions(config, None, 10)
    with pytest.raises(UsageError, match="no constitution given"):
        questions(RunConfig(), [], 10)


async def by_length(row, principle, weight, sample, cfg):  # type: ignore[no-untyped-def]
    p = 0.5 + (len(row.b) - len(row.a)) / 100
    return PrincipleVote(
        principle_id=principle.id, weight=weight, p_ab=p, p_ba=None, mass_ab=None, mass_ba=None
    )


def test_a_method_that_shows_no_order_and_uses_no_layout_is_asked_once(config, monkeypatch):
    """Prefers the shorter answer, as these people do, and so differs on neutral copies by 40 characters."""
    monkeypatch.setitem(LABEL_METHODS, "by_length", f"{__name__}:METHOD")
    monkeypatch.setitem(sys.modules, __name__, type(sys)(__name__))
    sys.modules[__name__].METHOD = LabelMethod(vote=by_length, ordered=False)  # type: ignore[attr-defined]
    tried = candidates(["by_length", "choice"])
    assert tried == [("by_length", ""), ("choice", "shared"), ("choice", "paper")]
    (figures,) = compare_methods(config, asked(config), tried[:1], engine=Judge()).figures
    assert (figures.name, figures.requests, figures.flips.n, figures.mass.n) == ("by_length", 0, 0, 0)
    assert figures.agreement is not None and figures.agreement.accuracy.value == 1.0
    assert (figures.neutral.value, figures.swapped.value, figures.longer_neutral.value) == (0.0, 1.0, 0.0)


def test_without_pairs_the_constitutions_own_examples_are_asked_about(config, tmp_path, run) -> None:
    """Each under its own principle alone, every second with the better answer as B."""
    given = constitution()
    shown = [Example(prompt=f"Q{i}?", better=f"good {i}", worse=f"bad {i}") for i in range(3)]
    principles = (given.principles[0].model_copy(update={"examples": tuple(shown)}), *given.principles[1:])
    (tmp_path / "c.yaml").write_text(to_yaml(given.model_copy(update={"principles": principles})))
    questioned = questions(config, None, 10)
    name = principles[0].id
    assert questioned.source == "the constitution's examples"
    assert [(p.id, p.a, p.b, p.human) for p in questioned.pairs] == [
        (f"{name}-1", "good 0", "bad 0", 1.0),
        (f"{name}-2", "bad 1", "good 1", 0.0),
        (f"{name}-3", "good 2", "bad 2", 1.0),
    ]
    assert all(questioned.voting(p.id).principles == (principles[0],) for p in questioned.pairs)
    (figures,) = compare_methods(config, questioned, [("choice", "shared")], engine=Judge()).figures
    assert figures.agreement is not None and figures.agreement.accuracy.value == 1.0
    assert (figures.asked, figures.requests, figures.card.votes) == (3, 6, 3)
    line = LINE.replace(" --pairs pairs.jsonl", "")
    code, out, _ = run(f"{line} --methods choice --layouts shared --run of-examples")
    assert code == 4 and out.startswith("3 pairs (the constitution's examples), 3 of them judged by people")


def test_what_an_engine_cannot_do_is_left_out_and_said(config, monkeypatch):
    engine = Judge()
    engine.lacks = {"choose": "it answers in text alone"}
    found = compare_methods(config, asked(config), [("choice", "shared")], engine=engine)
    assert (found.figures, found.advice.method) == ((), None)
    assert found.advice.sentence.endswith("choice, shared: judge cannot choose: it answers in text alone")


@pytest.fixture
def run(config, tmp_path, monkeypatch, capsys):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["constitute", *line.split()])
        code = run_and_exit(cli)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


LINE = "judge --model m --set engine.kind=fake --constitution c.yaml --pairs pairs.jsonl"


def test_the_command_says_that_the_fake_engine_is_a_coin(run) -> None:
    code, out, err = run(f"{LINE} --methods choice --n 30")
    assert code == 4
    assert err.splitlines()[-1].startswith("constitute: none of them is shown to be better than a coin")
    assert out.startswith("30 pairs (given pairs), 30 of them judged by people")
    assert "choice, shared" in out and "choice, paper" in out and "steady on copies" in out
    code, out, _ = run(f"{LINE} --methods choice --layouts shared --n 30 --json")
    result = json.loads(out.splitlines()[-1])
    (figures,) = result["figures"]
    assert code == 4 and result["advice"]["method"] is None
    assert figures["card"]["agreement"]["accuracy"]["n"] == 30 and figures["requests"] == 60
    assert Path("judge-run/run.sqlite").is_file() and not Path("run").exists()


@pytest.mark.parametrize(
    "row", [{"a": "one", "b": "two", "human": 0.2}, {"a": "one", "b": "two", "human": "B"}]
)
def test_a_human_column_beside_a_and_b(tmp_path, row):
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "Q", **row}) + "\n")
    (pair,), _ = read_pairs(tmp_path / "p.jsonl")
    assert isinstance(pair, Comparison) and pair.human == (0.2 if row["human"] == 0.2 else 0.0)


class Opened(Judge):
    """The judge, as the command line opens it."""

    def __init__(self, model, config) -> None:  # type: ignore[no-untyped-def]
        super().__init__()


@pytest.fixture
def good(monkeypatch) -> str:
    """The command line's options for a judge that tells good from bad."""
    module = type(sys)("good_judge")
    module.Opened = Opened  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "good_judge", module)
    monkeypatch.setitem(ENGINES, "good", "good_judge:Opened")
    return "judge --model m --set engine.kind=good --constitution c.yaml"


def test_the_printed_command_works_as_it_stands_and_asks_nothing_again(run, good) -> None:
    code, _, err = run(f"{good} --pairs pairs.jsonl --methods choice --run b5")
    assert code == 0
    step = err.splitlines()[-1].removeprefix("next: constitute ")
    assert step == (
        "label --config b5/config.yaml --run b5-labels --pairs pairs.jsonl --set label.method=choice "
        "--set label.layout=shared --reuse b5"
    )
    code, out, _ = run(step)
    assert code == 0
    # 60 pairs in both orders, all of them asked by the comparison.
    assert out.splitlines()[1].split() == ["label", "60", "60", "0", "0", "0", "0", "120"]


def test_without_pairs_the_printed_commands_begin_with_responses(run, good, tmp_path) -> None:
    first, *others = constitution().principles
    shown = tuple(Example(prompt=f"Q{i}?", better=f"good {i}", worse=f"bad {i}") for i in range(8))
    changed = first.model_copy(update={"examples": shown})
    given = constitution().model_copy(update={"principles": (changed, *others)})
    (tmp_path / "c.yaml").write_text(to_yaml(given))
    code, _, err = run(f"{good} --methods choice --layouts shared")
    assert code == 0
    generate, label = err.splitlines()[-1].removeprefix("next: ").split(", then ")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "one?"}\n{"prompt": "two?"}\n')
    for step, rows in ((generate.replace("FILE", "prompts.jsonl"), "4"), (label, "2")):
        code, out, _ = run(step.removeprefix("constitute "))
        assert (code, out.splitlines()[1].split()[1]) == (0, rows)


def test_names_may_be_repeated_or_joined_by_commas(run, good, monkeypatch) -> None:
    monkeypatch.setitem(LABEL_METHODS, "no_order", f"{__name__}:METHOD")
    monkeypatch.setitem(sys.modules, __name__, type(sys)(__name__))
    sys.modules[__name__].METHOD = LabelMethod(vote=by_length, ordered=False)  # type: ignore[attr-defined]
    line = f"{good} --pairs pairs.jsonl --n 20 --json"
    found = []
    for named in ("--methods choice,no_order --layouts shared,paper",
                  "--methods choice --methods no_order,choice --layouts shared --layouts paper"):  # fmt: skip
        _, out, _ = run(f"{line} {named}")
        result = json.loads(out.splitlines()[-1])
        found.append([(each["method"], each["layout"]) for each in result["figures"]])
    assert found[0] == [("choice", "shared"), ("choice", "paper"), ("no_order", "")]
    assert sorted(found[1]) == sorted(found[0])


def test_each_round_of_questions_has_a_name(run, good) -> None:
    _, out, _ = run(f"{good} --pairs pairs.jsonl --n 25 --methods choice --layouts shared --json")
    events = [json.loads(line) for line in out.splitlines()]
    assert [(each["stage"], each["total"]) for each in events if each["event"] == "start"] == [
        ("choice, shared: pairs", 25),
        ("choice, shared: neutral copies", 20),
        ("choice, shared: pairs in the other order", 20),
    ]


def test_pairs_without_a_preference_are_told_of_before_anything_is_asked(run, good, tmp_path) -> None:
    (tmp_path / "ab.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Q{i}", "a": "good", "b": "bad"}) + "\n" for i in range(5))
    )
    _, out, _ = run(f"{good} --pairs ab.jsonl --methods choice --layouts shared --json")
    first = json.loads(out.splitlines()[0])
    assert first == {
        "event": "note",
        "text": "warning: none of the 5 pairs says which answer people prefer, so nothing will say how good "
        "the judge is; give --pairs whose rows hold chosen and rejected, or a, b and human (a, b, tie or "
        "P(a))",
    }
    _, out, _ = run(f"{good} --pairs pairs.jsonl --methods choice --layouts shared --json --run other")
    assert "nothing will say" not in out
