"""label.rule: each rule by hand, and what every rule must keep to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from registry_examples import add_module, example
from scripted import ScriptedEngine, constitution, principle, prompt

from constitute.config import LabelConfig, load_config
from constitute.constitution.priority import by_level
from constitute.constitution.write import to_yaml
from constitute.errors import UsageError
from constitute.pipeline import run_stages
from constitute.stages import stage_spec
from constitute.stages.labels.rules import RULES, Ruling, label_of, settle
from constitute.store import Store
from constitute.types import Constitution, LabelledPair, PreferenceLabel, PrincipleVote

NAMES = ("r1", "r2", "u")
WEIGHTS = {"r1": 2.0, "r2": 1.0, "u": 3.0}
LEVELS = (("root", frozenset({"r1", "r2"})), ("user", frozenset({"u"})))


def votes(p: Sequence[float], weights: Mapping[str, float] = WEIGHTS) -> list[PrincipleVote]:
    return [
        PrincipleVote(principle_id=name, weight=weights[name], p_ab=each, p_ba=each, mass_ab=1, mass_ba=1)
        for name, each in zip(NAMES, p, strict=False)
    ]


def ruled(rule: str, *p: float, threshold: float = 0.1) -> Ruling:
    return settle(votes(p), LabelConfig(rule=rule, threshold=threshold), LEVELS)


@pytest.mark.parametrize(
    ("p", "mean", "priority", "least"),
    [
        # Root: (2 x 0.9 + 0.6) / 3 = 0.8. All: (1.8 + 0.6 + 3 x 0.1) / 6. Least: P(A) 0.1, P(B) 0.1.
        ((0.9, 0.6, 0.1), 0.45, (0.8, "root", {"r1", "r2"}), (0.5, {"r1", "u"})),
        # Root: (1.1 + 0.52) / 3 = 0.54 is silent. Least: 0.1 / (0.1 + 0.45).
        ((0.55, 0.52, 0.1), 0.32, (0.1, "user", {"u"}), (0.1 / 0.55, {"r1", "u"})),
        # Root: 0.5, user: 0.45; neither decides. Least: 0.4 / (0.4 + 0.45).
        ((0.55, 0.4, 0.45), 0.475, (0.475, "", {"r1", "r2", "u"}), (0.4 / 0.85, {"r1", "r2"})),
        # All for A: least 0.6 / (0.6 + 0.1).
        ((0.6, 0.9, 0.7), 4.2 / 6, (0.7, "root", {"r1", "r2"}), (0.6 / 0.7, {"r1", "r2"})),
    ],
)
def test_three_principles_on_two_levels_by_hand(
    p: tuple[float, ...],
    mean: float,
    priority: tuple[float, str, set[str]],
    least: tuple[float, set[str]],
) -> None:
    assert ruled("mean", *p).p_a == pytest.approx(mean)
    found = ruled("priority", *p)
    assert (found.p_a, found.level, set(found.shares)) == (pytest.approx(priority[0]), *priority[1:])
    found = ruled("least", *p)
    assert (found.p_a, set(found.shares)) == (pytest.approx(least[0]), least[1])


def test_the_shares_by_hand() -> None:
    assert ruled("mean", 0.9, 0.6, 0.1).shares == pytest.approx({"r1": 1 / 3, "r2": 1 / 6, "u": 1 / 2})
    assert ruled("priority", 0.9, 0.6, 0.1).shares == pytest.approx({"r1": 2 / 3, "r2": 1 / 3})
    # 1 / (2 x (0.2 + 0.4)) for each end; two votes share the upper one.
    shared = ruled("least", 0.6, 0.6, 0.2).shares
    assert shared == pytest.approx({"r1": 1 / 2.4, "r2": 1 / 2.4, "u": 1 / 1.2})


@pytest.mark.parametrize(
    ("root", "threshold", "level"),
    [
        (0.6, 0.1, "root"),  # 0.6 - 0.5 is a little under 0.1 in floating point
        (0.4, 0.1, "root"),
        (0.599, 0.1, "user"),
        (0.5, 0.0, "root"),
        (0.999, 0.5, ""),
        (1.0, 0.5, "root"),
    ],
)
def test_a_level_decides_from_the_threshold_on(root: float, threshold: float, level: str) -> None:
    assert ruled("priority", root, root, 0.9, threshold=threshold).level == level


def test_missing_votes_and_votes_of_weight_0_are_not_heard() -> None:
    # Nobody of the level root voted on the pair.
    cfg = LabelConfig(rule="priority")
    assert settle(votes([0.9, 0.9, 0.2])[2:], cfg, LEVELS) == Ruling(pytest.approx(0.2), {"u": 1.0}, "user")
    for rule, wanted in (("mean", 0.3), ("priority", 0.3), ("least", 0.3)):
        off = votes([0.3, 1.0, 1.0], {"r1": 2.0, "r2": 0.0, "u": 0.0})
        found = settle(off, LabelConfig(rule=rule), LEVELS)
        assert (found.p_a, set(found.shares)) == (pytest.approx(wanted), {"r1"})
        with pytest.raises(ValueError, match="no vote"):
            settle(votes([0.3], {"r1": 0.0}), LabelConfig(rule=rule), LEVELS)


def test_least_where_each_answer_is_nothing_to_somebody() -> None:
    assert ruled("least", 0.0, 0.7, 1.0).p_a == 0.5
    # A worth of 1e-28, which is 0 once it is taken from 1, is as good as 0 for either answer.
    assert ruled("least", 1e-28, 0.7, 1.0).p_a == pytest.approx(0.5)
    assert ruled("least", 0.0, 0.7, 0.9).p_a == pytest.approx(0, abs=1e-7)
    assert ruled("least", 0.1, 0.7, 1.0).p_a == pytest.approx(1, abs=1e-7)


CHANCES = st.lists(st.floats(0, 1), min_size=1, max_size=3)
# Such that two that differ do so still when they are taken from 1.
SPACED = st.lists(st.integers(0, 10**6).map(lambda n: n / 10**6), min_size=1, max_size=3)


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None)
@given(p=SPACED)
def test_every_rule_is_the_same_for_both_answers(rule: str, p: list[float]) -> None:
    there, back = ruled(rule, *p), ruled(rule, *(1 - each for each in p))
    assert there.p_a + back.p_a == pytest.approx(1)
    assert 0 <= there.p_a <= 1 and (there.level, set(there.shares)) == (back.level, set(back.shares))


@settings(deadline=None)
@given(p=CHANCES)
def test_the_least_satisfied_is_the_same_for_both_answers_however_small(p: list[float]) -> None:
    assert ruled("least", *p).p_a + ruled("least", *(1 - each for each in p)).p_a == pytest.approx(1)


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None)
@given(p=CHANCES)
def test_the_shares_add_up_to_the_label(rule: str, p: list[float]) -> None:
    found, cast = ruled(rule, *p), {vote.principle_id: vote.p_a for vote in votes(p)}
    pushes = sum(share * (cast[name] - 0.5) for name, share in found.shares.items())
    # Pushes that nearly cancel are as inexact as they are large.
    rounding = 1e-15 * sum(map(abs, found.shares.values()))
    assert found.p_a - 0.5 == pytest.approx(pushes, abs=1e-9 + rounding)


@pytest.mark.parametrize("rule", ["mean", "least"])
@settings(deadline=None)
@given(p=CHANCES, at=st.integers(0, 2), higher=st.floats(0, 1))
def test_a_vote_that_rises_never_lowers_the_label(rule: str, p: list[float], at: int, higher: float) -> None:
    raised = list(p)
    at %= len(p)
    raised[at] = max(p[at], higher)
    assert ruled(rule, *raised).p_a >= ruled(rule, *p).p_a - 1e-12


@settings(deadline=None)
@given(p=CHANCES, at=st.integers(0, 2), higher=st.floats(0, 1))
def test_under_priority_the_preferred_answer_never_turns_against_a_vote_that_rises(
    p: list[float], at: int, higher: float
) -> None:
    raised = list(p)
    at %= len(p)
    raised[at] = max(p[at], higher)
    if ruled("priority", *p).p_a > 0.5 + 1e-9:
        assert ruled("priority", *raised).p_a > 0.5 - 1e-9


def test_under_priority_p_a_jumps_where_a_level_falls_silent() -> None:
    # The price of levels: root's vote for B grows weaker, and the user's, which is stronger, is heard.
    assert ruled("priority", 0.40, 0.40, 0.05).p_a == pytest.approx(0.40)
    assert ruled("priority", 0.42, 0.42, 0.05).p_a == pytest.approx(0.05)


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None)
@given(p=st.floats(0, 1))
def test_with_one_vote_every_rule_is_the_vote(rule: str, p: float) -> None:
    assert ruled(rule, p).p_a == pytest.approx(p, abs=1e-8)


def test_levels_come_from_the_constitution() -> None:
    ranked = Constitution(
        name="c",
        priorities=("must", "should"),
        principles=(
            principle("kind").model_copy(update={"priority": "must"}),
            principle("brief"),
            principle("safe").model_copy(update={"priority": "should"}),
        ),
    )
    assert by_level(ranked) == (("must", frozenset({"kind"})), ("should", frozenset({"brief", "safe"})))


def test_a_label_says_what_decided_it_and_old_rows_read() -> None:
    label = label_of(votes([0.9, 0.6, 0.1]), LabelConfig(rule="priority"), LEVELS)
    assert (label.rule, label.level, label.decided_by) == ("priority", "root", ("r1", "r2"))
    assert label.p_a == pytest.approx(0.8)
    old = {"p_a": 0.7, "votes": [vote.model_dump() for vote in votes([0.7])]}
    read = PreferenceLabel.model_validate(old)
    assert (read.rule, read.level, read.decided_by) == ("mean", "", ())


def test_settings_that_cannot_be_met_are_refused() -> None:
    check = stage_spec("label").check
    check(LabelConfig(principles="one"))
    for principles in ("one", 1):
        with pytest.raises(UsageError, match=f"principles={principles} has one vote .* set label.princ"):
            check(LabelConfig(rule="least", principles=principles))
    check(LabelConfig(rule="least", principles=2))
    with pytest.raises(UsageError, match=r"no such label\.rule: 'prioritty'; did you mean 'priority'"):
        check(LabelConfig(rule="prioritty", principles="all"))
    for wrong in (-0.1, 0.6, float("nan")):
        with pytest.raises(ValidationError, match="threshold"):
            LabelConfig(threshold=wrong)


def test_a_rule_of_ones_own_is_one_function(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    add_module(monkeypatch, "by_majority", example("A label rule"))
    monkeypatch.setitem(RULES, "majority", "by_majority:majority")
    assert ruled("majority", 0.9, 0.9, 0.1).p_a == pytest.approx(2 / 3)
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(constitution()), encoding="utf-8")
    sets = [f"constitution={file}", f"run={tmp_path / 'run'}", "generate.n=2"]
    config = load_config(None, [*sets, "label.rule=majority", "label.principles=all"])
    run_stages(config, ["generate", "label"], prompts=[prompt("p"), prompt("q")], engine=ScriptedEngine())
    with Store.open(tmp_path / "run", readonly=True) as store:
        rows = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
    assert rows and {row.label.rule for row in rows} == {"majority"}
    for row in rows:
        for_a = sum(vote.p_a > 0.5 for vote in row.label.votes)
        assert row.label.p_a == pytest.approx(for_a / 3)
