"""Conflicts and other rules, on the matrix worked by hand: x above y and z."""

from __future__ import annotations

import pytest
from unit.editing.attribute.test_attribution import MATRIX, rows

from constitute.config import LabelConfig
from constitute.editing.attribute.figures import Attribution, attribute
from constitute.report.heatmap import render_heatmap, sentences

LEVELS = (("root", frozenset({"x"})), ("user", frozenset({"y", "z"})))
# P(A) of p1 to p4 by hand. x decides p1, p2 and p4 by priority; nobody is 0.1 away from 0.5 on p3.
# Least: 0.5 / (0.5 + 0.1), 0.1 / (0.1 + 0.1), 0.55 / (0.55 + 0.45), 0.2 / (0.2 + 0.1).
LABELS = {
    "mean": (0.7, 0.5, 0.55, 0.55),
    "priority": (0.9, 0.1, 0.55, 0.2),
    "least": (5 / 6, 0.5, 0.55, 2 / 3),
}


def under(rule: str) -> Attribution:
    return attribute(rows(MATRIX), cfg=LabelConfig(rule=rule), levels=LEVELS)


@pytest.mark.parametrize(
    ("rule", "deciders", "levels"),
    [
        ("mean", [("x", "y"), (), (), ("z",)], ["", "", "", ""]),
        ("priority", [("x",), ("x",), (), ("x",)], ["root", "root", "", "root"]),
        # On p4 z is least satisfied with B, the answer that loses.
        ("least", [("x", "y"), (), (), ("z",)], ["", "", "", ""]),
    ],
)
def test_labels_and_deciders_are_those_of_the_rule(
    rule: str, deciders: list[tuple[str, ...]], levels: list[str]
) -> None:
    columns = {c.id: c for c in under(rule).columns}
    assert [columns[n].p_a for n in MATRIX] == pytest.approx(LABELS[rule])
    assert [columns[n].deciders for n in MATRIX] == deciders
    assert [columns[n].level for n in MATRIX] == levels


def test_what_another_rule_would_have_changed() -> None:
    # An even label that is decided turns, and so does a decided one that becomes even.
    turned = {("mean", "priority"): 2, ("mean", "least"): 0, ("priority", "least"): 2}
    for rule, before in LABELS.items():
        others = {other.rule: other for other in under(rule).others}
        assert set(others) == set(LABELS) - {rule}
        for name, other in others.items():
            wanted = turned.get((rule, name), turned.get((name, rule)))
            moved = [abs(a - b) for a, b in zip(LABELS[name], before, strict=True)]
            assert (other.turned, other.turns.value, other.turns.n) == (wanted, wanted / 4, 4)
            assert other.change.value == pytest.approx(sum(moved) / 4) and other.change.n == 4
    change = next(o for o in under("mean").others if o.rule == "priority").change
    assert change.value == pytest.approx(0.95 / 4) and 0 < change.low < change.value < change.high < 0.4


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    # On p2 and p4 x pulls to B and z to A. By mean p2 is even and p4 goes with z; by priority both with x.
    [("mean", 0, 1 / 2), ("priority", 1, 0), ("least", 0, 1 / 2)],
)
def test_how_conflicts_were_decided(rule: str, first: float, second: float) -> None:
    found = {(c.first, c.second): c for c in under(rule).conflicts}
    assert set(found) == {("x", "z"), ("y", "z")}
    conflict = found["x", "z"]
    assert (conflict.count, conflict.against.value, conflict.against.n) == (2, 1 / 2, 4)
    assert (conflict.with_first.value, conflict.with_second.value, conflict.with_first.n) == (
        first,
        second,
        2,
    )


def test_leaving_one_out_follows_the_rule() -> None:
    x = next(i for i in under("priority").influences if i.principle_id == "x")
    # Without x the level user decides: (0.9 + 2 x 0.5) / 3, (0.1 + 1.8) / 3, 0.55, (0.2 + 1.8) / 3.
    after = (1.9 / 3, 1.9 / 3, 0.55, 2 / 3)
    moved = [abs(a - b) for a, b in zip(after, LABELS["priority"], strict=True)]
    assert x.change.value == pytest.approx(sum(moved) / 4) and x.without.value == 2 / 4


def test_without_levels_priority_is_left_out_and_never_guessed() -> None:
    done = attribute(rows(MATRIX))
    assert [other.rule for other in done.others] == ["least"]
    assert any("levels of the principles are not known" in line for line in sentences(done))
    with pytest.raises(ValueError, match="levels"):
        attribute(rows(MATRIX), cfg=LabelConfig(rule="priority"))


def test_pairs_with_one_vote_are_the_same_under_every_rule() -> None:
    done = attribute(rows({"p1": {"x": 0.9}, "p2": {"y": 0.2}}), levels=LEVELS)
    assert done.alone == 2
    assert [(o.rule, o.turned, o.change.value) for o in done.others] == [
        ("priority", 0, pytest.approx(0, abs=1e-8)),
        ("least", 0, pytest.approx(0, abs=1e-8)),
    ]
    assert "each pair has one vote, which is the label under every rule" in sentences(done)


def test_the_sentences_name_the_rule_and_the_page_shows_the_others() -> None:
    said = sentences(under("priority"))
    assert (
        "labels by the rule priority: of 4 pairs root decides 3, no level 1 (the mean of all votes)" in said
    )
    assert under("priority").subset is None and any("rule mean alone" in line for line in said)
    page = render_heatmap(under("mean"), "run")
    assert "Under another rule" in page and "label with the first" in page
