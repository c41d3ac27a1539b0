"""Figures of a constitution's tests, worked by hand, and the JUnit XML of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from scripted import principle

from constitute.constitution.examples import ExamplePair, alone, example_pairs
from constitute.editing.trial.figures import (
    Cost,
    ExampleTest,
    TrialResult,
    example_test,
    overall,
    prefers,
    tallies,
)
from constitute.editing.trial.junit import junit
from constitute.types import Constitution, Example, LabelledPair, Outcome, PreferenceLabel, PrincipleVote


def asked(name: str = "kind", draft: bool = False, prompt: str = "Why?") -> ExamplePair:
    example = Example(prompt=prompt, better="good", worse="bad", draft=draft)
    given = principle(name, weight=0.0).model_copy(update={"examples": (example,)})
    (found,) = example_pairs(Constitution(name="c", principles=(given,)))
    return found


def labelled(p_ab: float, p_ba: float | None) -> LabelledPair:
    vote = PrincipleVote(principle_id="kind", weight=1, p_ab=p_ab, p_ba=p_ba, mass_ab=None, mass_ba=None)
    return LabelledPair(id="x", comparison=asked().pair, label=PreferenceLabel(p_a=vote.p_a, votes=(vote,)))


def judged(p_ab: float, p_ba: float | None, margin: float = 0.0, **more) -> ExampleTest:
    return example_test(asked(**more), "choice, shared", labelled(p_ab, p_ba), margin)


def without(status: str, reason: str) -> ExampleTest:
    row = Outcome(row_id="x", position=0, status=status, reason=reason)
    return example_test(asked(), "choice, shared", row, 0.0)


def test_the_pair_has_the_better_answer_first_and_an_id_of_its_words() -> None:
    found = asked()
    assert (found.pair.a, found.pair.b, found.pair.human) == ("good", "bad", 1.0)
    assert found.pair.id.startswith("kind/") and found.pair.id != asked(prompt="How?").pair.id
    # A principle of weight 0 votes on its own examples.
    only = alone(Constitution(name="c", principles=(found.principle,)), found.principle)
    assert [p.weight for p in only.principles] == [1.0]


@pytest.mark.parametrize(
    ("p", "margin", "passes"),
    [
        (0.5, 0.0, False),
        (0.51, 0.0, True),
        (0.49, 0.0, False),
        (0.6, 0.2, True),
        (0.59, 0.2, False),
        (1.0, 1.0, True),
    ],
)
def test_the_better_answer_is_preferred_by_the_margin(p: float, margin: float, passes: bool) -> None:
    assert prefers(p, margin) is passes


def test_one_example_by_hand() -> None:
    """0.9 shown first and 0.4 shown second: 0.65 on average, a margin of 0.3, and the orders disagree."""
    found = judged(0.9, 0.4)
    assert (found.p_better, found.p_better_first, found.p_better_second) == (0.65, 0.9, 0.4)
    assert (found.ended, found.flips, found.fails) == ("passed", True, False)
    assert found.margin == pytest.approx(0.3)
    assert judged(0.9, 0.4, margin=0.31).ended == "not preferred"
    orderless = judged(0.2, None)
    assert (orderless.p_better, orderless.flips, orderless.p_better_first) == (0.2, None, None)
    assert orderless.fails and not judged(0.2, None, draft=True).fails


def test_a_row_by_hand() -> None:
    """P 0.65, 0.2 and 0.8, one abstained: mean 0.55, two of four pass, one of three flips, margin -0.6."""
    tests = [judged(0.9, 0.4), judged(0.1, 0.3), judged(0.8, 0.8), without("abstain", "no mass")]
    tests += [judged(0.0, 0.0, draft=True)]
    (row,) = tallies(tests)
    assert (row.examples, row.passed, row.flipped, row.ordered) == (4, 2, 1, 3)
    assert (row.abstained, row.failed) == (1, 0)
    assert row.p_better == pytest.approx(0.55) and row.margin == pytest.approx(-0.6)
    (of_all,) = overall(tests, {"choice, shared": "the order decides"})
    assert (of_all.passed.value, of_all.passed.n) == (0.5, 4)
    assert (of_all.p_better.value, of_all.p_better.n) == (pytest.approx(0.55), 3)
    assert (of_all.flips.value, of_all.verdict) == (pytest.approx(1 / 3), "the order decides")
    assert tallies([]) == overall([], {}) == ()


def result(tests: list[ExampleTest]) -> TrialResult:
    return TrialResult(
        name="my <rules> & \x00more",
        hash="0" * 64,
        model={"name": "m"},
        made_by={"choice, shared": "abc"},
        min_margin=0.0,
        tests=tuple(tests),
        tallies=tallies(tests),
        overall=overall(tests, {}),
        untested=(),
        cost=Cost(asked=8, cached=2, prompt_tokens=None, seconds=1.5),
    )


TESTS = [
    judged(0.9, 0.8),
    judged(0.2, 0.4, prompt="Is 1 < 2 & \x1b[31m\u202eso?"),
    without("abstain", "P(A) + P(B) = 0.01 is below 0.1"),
    without("failed", "the prompt is too long"),
    judged(0.1, 0.1, draft=True),
]


def test_junit_counts_and_names_each() -> None:
    root = ET.fromstring(junit(result(TESTS)))
    (suite,) = root
    counts = {"tests": "5", "failures": "2", "errors": "1", "skipped": "1"}
    assert {key: suite.get(key) for key in counts} == {key: root.get(key) for key in counts} == counts
    assert root.get("time") == "1.500"
    passed, preferred, abstained, failed, draft = suite
    assert (passed.get("classname"), passed.get("name"), len(passed)) == (
        "kind",
        "example 1 (choice, shared)",
        0,
    )
    message = preferred[0].get("message")
    assert message == "not preferred: P(better) 0.300, 0.200 shown first, 0.400 shown second"
    assert preferred[0].tag == "failure" and preferred[0].text == f"{message}\nprompt: Is 1 < 2 & so?"
    assert (abstained[0].tag, abstained[0].get("type")) == ("failure", "abstained")
    assert (failed[0].tag, failed[0].get("message")) == ("error", "failed: the prompt is too long")
    assert draft[0].tag == "skipped"


def test_junit_is_read_by_junitparser(tmp_path: Path) -> None:
    junitparser = pytest.importorskip("junitparser")
    (tmp_path / "t.xml").write_text(junit(result(TESTS)), encoding="utf-8")
    found = junitparser.JUnitXml.fromfile(str(tmp_path / "t.xml"))
    assert (found.tests, found.failures, found.errors, found.skipped) == (5, 2, 1, 1)
