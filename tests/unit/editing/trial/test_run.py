"""`constitution test`: what is asked, kept and refused, with a judge whose preferences are known."""

from __future__ import annotations

import json
import math
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.config import LabelConfig, RunConfig
from constitute.constitution.write import to_yaml
from constitute.editing.preview.session import preview_constitution
from constitute.editing.trial import known
from constitute.editing.trial.run import require_passed, try_constitution
from constitute.engines import fake
from constitute.errors import EngineError, GateFailed, UsageError
from constitute.report.build import write_report
from constitute.store import Store
from constitute.types import Choice, Constitution, Example, Request


class Judge(ScriptedEngine):
    """Gives the answer with `good` 0.8, and 0.1 more to whatever is shown first."""

    def __init__(self) -> None:
        super().__init__("judge")
        self.answered = 0

    def prompt_ids(self, request: Request) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(range(10))

    async def choose(self, request: Request, labels, *, spelled: bool = False) -> Choice:
        text = request.messages[-1].content
        if "[dead]" in text:
            raise EngineError("the engine is gone")
        self.answered += 1
        if "[no mass]" in text:
            return Choice(labels=tuple(labels), logprobs=(-20.0, -21.0))
        good = text.find("good")
        share = 0.1 + (0.8 if -1 < good < text.find("bad") else 0.2)
        return Choice(labels=tuple(labels), logprobs=(math.log(0.9 * share), math.log(0.9 * (1 - share))))


GOOD = Example(prompt="Q?", better="good one", worse="bad one")
OTHER = Example(prompt="R?", better="good two", worse="bad two")
WRONG = Example(prompt="S?", better="bad three", worse="good three")
SILENT = Example(prompt="[no mass]", better="good four", worse="bad four")


def given(*examples: tuple[Example, ...], names: str = "abc") -> Constitution:
    found = constitution(*names[: len(examples)])
    principles = zip(found.principles, examples, strict=True)
    changed = tuple(p.model_copy(update={"examples": each}) for p, each in principles)
    return found.model_copy(update={"principles": changed})


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(run=tmp_path / "tests")


def test_figures_by_hand(config: RunConfig) -> None:
    """Shown first 0.9, shown second 1 - 0.3: P(better) 0.8; where it is wrong, 0.3 and 1 - 0.9: 0.2."""
    result = try_constitution(config, given((GOOD, OTHER), (WRONG,), ()), engine=Judge())
    assert [round(test.p_better or 0, 9) for test in result.tests] == [0.8, 0.8, 0.2]
    assert [test.ended for test in result.tests] == ["passed", "passed", "not preferred"]
    assert [(row.principle, row.passed, row.flipped) for row in result.tallies] == [("a", 2, 0), ("b", 0, 0)]
    assert result.tallies[1].margin == pytest.approx(-0.6) and result.untested == ("c",)
    assert (result.cost.asked, result.cost.cached, result.cost.prompt_tokens) == (6, 0, 60)
    with pytest.raises(GateFailed, match="1 of 3 tests fail, under b: mend"):
        require_passed(result)
    require_passed(try_constitution(config, given((GOOD,)), engine=Judge()))
    strict = try_constitution(config, given((GOOD,)), min_margin=0.61, engine=Judge())
    assert strict.failing[0].ended == "not preferred"


def test_drafts_are_asked_and_fail_nothing(config: RunConfig) -> None:
    draft = WRONG.model_copy(update={"draft": True})
    result = try_constitution(config, given((GOOD, draft)), engine=Judge())
    require_passed(result)
    assert [test.p_better for test in result.drafts] == [pytest.approx(0.2)] and result.tallies[
        0
    ].examples == 1
    only = try_constitution(config, given((draft,)), engine=Judge())
    require_passed(only)
    assert (only.untested, only.tallies, len(only.drafts)) == (("a",), (), 1)


def test_an_abstention_fails_with_its_reason(config: RunConfig) -> None:
    result = try_constitution(config, given((SILENT,)), engine=Judge())
    (test,) = result.failing
    assert (test.ended, test.p_better) == ("abstained", None) and "is below 0.1 under a" in test.problem
    assert (result.tallies[0].abstained, result.tallies[0].p_better) == (1, None)


def test_an_edit_asks_only_what_changed(config: RunConfig) -> None:
    before = given((GOOD, OTHER), (WRONG,))
    try_constitution(config, before, engine=Judge())
    again = try_constitution(config, before, engine=(judge := Judge()))
    assert (judge.answered, again.cost.asked, again.cost.cached) == (0, 0, 6)
    a, b = before.principles
    for edited, asked in (
        (a.model_copy(update={"compare": "Which is nicer?"}), 4),
        (a.model_copy(update={"critique": "Is it nice?", "revise": "Make it nice.", "weight": 0.0}), 0),
        (a.model_copy(update={"examples": (SILENT.model_copy(update={"prompt": "New?"}), GOOD, OTHER)}), 2),
        (a.model_copy(update={"examples": (OTHER, GOOD)}), 0),
    ):
        after = before.model_copy(update={"principles": (edited, b)})
        try_constitution(config, after, engine=(judge := Judge()))
        assert judge.answered == asked, edited


def test_a_run_that_reused_another_is_tested_without_it(config: RunConfig) -> None:
    begun = config.model_copy(update={"reuse": config.run.with_name("gone")})
    assert try_constitution(begun, given((GOOD,)), engine=Judge()).cost.asked == 2


def test_methods_and_principles_that_are_named(config: RunConfig) -> None:
    both = given((GOOD,), (OTHER,))
    result = try_constitution(config, both, methods=["choice"], layouts=["shared", "paper"], engine=Judge())
    assert [(test.principle, test.method) for test in result.tests] == [
        ("a", "choice, shared"),
        ("a", "choice, paper"),
        ("b", "choice, shared"),
        ("b", "choice, paper"),
    ]
    assert [test.principle for test in try_constitution(config, both, ids=["b"], engine=Judge()).tests] == [
        "b"
    ]
    yes_no = config.model_copy(update={"label": LabelConfig(method="yes_no")})
    assert try_constitution(yes_no, both, engine=Judge()).tests[0].method == "yes_no"


def test_what_is_refused(config: RunConfig) -> None:
    with pytest.raises(UsageError, match="test has no examples to test; write some, or have them drafted"):
        try_constitution(config, given((), ()), engine=Judge())
    with pytest.raises(UsageError, match="the principles named have no examples"):
        try_constitution(config, given((GOOD,), ()), ids=["b"], engine=Judge())
    with pytest.raises(UsageError, match="no principle 'z'"):
        try_constitution(config, given((GOOD,)), ids=["z"], engine=Judge())
    with pytest.raises(UsageError, match="no such label method: 'chioce'; did you mean 'choice'"):
        try_constitution(config, given((GOOD,)), methods=["chioce"], engine=Judge())
    with pytest.raises(UsageError, match="no model"):
        try_constitution(config, given((GOOD,)))
    mute = Judge()
    mute.lacks = {"choose": "it lists no log-probabilities; set label.votes=sampled"}
    with pytest.raises(UsageError, match="judge cannot choose: it lists no log-probabilities"):
        try_constitution(config, given((GOOD,)), engine=mute)


def test_a_judge_without_logprobs_votes_by_sampling(config: RunConfig) -> None:
    class Saying(Judge):
        async def generate(self, request):  # type: ignore[no-untyped-def]
            from constitute.types import Completion

            text = request.messages[-1].content
            return Completion(text="A" if text.find("good") < text.find("bad") else "B")

    engine = Saying()
    engine.lacks = {"choose": "it lists none"}
    sampled = config.model_copy(update={"label": LabelConfig(votes="sampled", samples=2)})
    result = try_constitution(sampled, given((GOOD,)), engine=engine)
    assert [test.p_better for test in result.tests] == [1.0]


def test_a_dead_server_ends_the_run_and_answers_stay(config: RunConfig) -> None:
    dead = Example(prompt="[dead]", better="good", worse="bad")
    with pytest.raises(EngineError):
        try_constitution(config, given((GOOD,), (dead,)), engine=Judge())
    with Store.open(config.run, readonly=True) as store:
        assert known.last_result(store) is None
    result = try_constitution(config, given((GOOD,)), engine=Judge())
    assert result.cost.cached == 2


def test_two_thousand_principles_take_seconds(config: RunConfig) -> None:
    many = constitution(*[f"k{n}" for n in range(2000)])
    principles = tuple(p.model_copy(update={"examples": (GOOD,)}) for p in many.principles)
    start = time.process_time()
    result = try_constitution(config, many.model_copy(update={"principles": principles}), engine=Judge())
    assert len(result.tests) == 2000 and not result.failing
    assert time.process_time() - start < 20


def test_results_are_known_under_the_words_they_were_found(config: RunConfig) -> None:
    before = given((GOOD, OTHER), (WRONG,))
    try_constitution(config, before, engine=Judge())
    a, b = before.principles
    edited = a.model_copy(update={"compare": "Which is nicer?"})
    new = b.model_copy(update={"examples": (WRONG, OTHER)})
    after = before.model_copy(update={"principles": (edited, new)})
    with Store.open(config.run, readonly=True) as store:
        made = known.made_by(Judge().identity, config.label, config.seed)
        found = known.known(store, made, config.label, before)
        assert known.known_text(found) == "its examples: 2 of 3 tested are kept to, not b 1"
        said = known.known_text(known.known(store, made, config.label, after))
        assert said == "its examples: 0 of 1 tested are kept to, not b 1; 3 not tested under these words"
        assert known.known_text(known.known(store, "another", config.label, before)) == ""
    rows = known.compared(config.run, config.label, before, after)
    assert [(r.principle, r.number, r.before is None, r.after is None) for r in rows] == [
        ("a", 1, False, True),
        ("a", 2, False, True),
        ("b", 1, False, False),
    ]
    assert not any(row.turned for row in rows)
    assert known.compared(config.run / "none", config.label, before, after) == []


def test_preview_says_what_is_known_and_asks_nothing_for_it(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(to_yaml(given((GOOD,), (WRONG,))))
    notes: list[str] = []

    class Screen:
        def note(self, text: str) -> None:
            notes.append(text)

        def problem(self, text: str) -> None: ...
        def begin(self, edit, plan) -> None: ...  # type: ignore[no-untyped-def]
        def probe(self, edit, moved) -> None: ...  # type: ignore[no-untyped-def]
        def end(self, edit, plan, found, seconds) -> None: ...  # type: ignore[no-untyped-def]

    judge = Judge()
    preview_constitution(tmp_path / "c.yaml", config, n=8, screen=Screen(), engine=judge)
    assert not any("its examples" in note for note in notes)
    try_constitution(config, given((GOOD,), (WRONG,)), engine=judge)
    asked = judge.answered
    preview_constitution(tmp_path / "c.yaml", config, n=8, screen=Screen(), engine=judge)
    assert notes[-1] == "its examples: 1 of 2 tested are kept to, not b 1" and judge.answered == asked


def test_the_report_shows_the_last_tests(config: RunConfig) -> None:
    bad = WRONG.model_copy(update={"prompt": "<script>S?"})
    try_constitution(config, given((GOOD,), (bad,)), engine=Judge())
    page = write_report(config.run).read_text()
    section = page[page.index("The constitution's tests: test") :]
    assert "b, example 1, choice, shared: not preferred: P(better) 0.200" in section
    assert "50.0 %" in section and "&lt;script&gt;S?" in section and "<script" not in page


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(to_yaml(given((GOOD,), (WRONG,))))

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["constitute", *line.split()])
        code = run_and_exit(cli)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


LINE = "constitution test c.yaml --model m --set engine.kind=judging"


@pytest.fixture(autouse=True)
def _judging(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine kind of that name."""
    from constitute.engines import ENGINES

    monkeypatch.setattr(fake, "Judging", lambda model, config: Judge(), raising=False)
    monkeypatch.setitem(ENGINES, "judging", "constitute.engines.fake:Judging")


def test_the_command(run) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run(f"{LINE} --junit t.xml")
    assert code == 4 and err.splitlines()[-1].startswith("constitute: 1 of 2 tests fail, under b: mend")
    lines = out.splitlines()
    assert lines[0] == "test: 2 examples, judged by judge"
    assert lines[3].split() == ["a", "choice,", "shared", "1", "1", "0.800", "0", "of", "1", "+0.600", "0"]
    failing = lines[lines.index("tests that fail:") + 1 :]
    said = "not preferred: P(better) 0.200, 0.300 shown first, 0.100 shown second"
    assert failing[0] == f"  b, example 1, choice, shared: {said}"
    assert failing[1] == "    prompt: S?"
    assert lines[-1].startswith("4 requests asked, 0 cached; 40 prompt tokens; ")
    assert ET.parse("t.xml").getroot().get("failures") == "1"
    assert Path(".constitute/run.sqlite").is_file()
    code, out, _ = run(f"{LINE} --json --id a")
    result = json.loads(out.splitlines()[-1])
    assert (code, result["event"], result["cost"]["asked"], result["cost"]["cached"]) == (0, "result", 0, 2)
    assert result["tests"][0]["p_better"] == pytest.approx(0.8)


def test_diff_shows_the_tests_of_both(run) -> None:  # type: ignore[no-untyped-def]
    run(LINE)
    Path("d.yaml").write_text(Path("c.yaml").read_text().replace("Which is more b?", "Which is less b?"))
    code, out, _ = run("constitution diff c.yaml d.yaml")
    assert code == 0 and out.splitlines()[-2:] == [
        "tests that pass (as `constitution test` found them): 1 of 2 under A, 1 of 1 under B",
        "  b, example 1, choice, shared: P(better) 0.200 -> not known",
    ]
    assert len(json.loads(run("constitution diff c.yaml d.yaml --json")[1])["tests"]) == 2


def test_examples_with_equal_answers_or_no_prompt_are_named(run) -> None:  # type: ignore[no-untyped-def]
    text = Path("c.yaml").read_text()
    Path("c.yaml").write_text(text.replace("worse: bad one", "worse: good one"))
    code, _, err = run(LINE)
    assert code == 2 and "better and worse are the same answer" in err
    Path("c.yaml").write_text(text.replace("      - prompt: Q?\n        better", "      - better"))
    code, _, err = run(LINE)
    assert code == 2 and "c.yaml:10:9: the key 'prompt' is missing" in err
