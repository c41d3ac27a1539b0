"""How well principles explain pairs, alone and together, on votes written by hand."""

from __future__ import annotations

import math
from itertools import product

import pytest
from unit.editing.recover.test_cases import pair

from constitute.editing.recover.cases import Case
from constitute.editing.recover.figures import alone, spoken_for, unexplained, unexplained_cases
from constitute.editing.recover.fit import fit_weights, together, wrong
from constitute.editing.recover.run import conclusion


def case(name: str, *votes: float | None, first: bool = True, a: str = "yes", b: str = "no") -> Case:
    given = pair(name, 1.0 if first else 0.0, a=a, b=b)
    return Case(pair=given, prompt=f"prompt {name}", first_preferred=first, votes=votes)


def test_each_principle_alone() -> None:
    """`x` is right on 10 of 10, `y` wrong on 10 of 10, `z` on 5 of 8, with one tie and one missing vote."""
    z = [0.9, 0.9, 0.9, 0.9, 0.55, 0.4, 0.1, 0.1, 0.5, None]
    rows = [case(str(i), 0.8, 0.3, z[i]) for i in range(10)]
    x, y, third = alone(rows, ["x", "y", "z"], 0.2)
    assert (x.accuracy.value, y.accuracy.value) == (1.0, 0.0)
    # Two-sided sign test: 2 / 2^10; Holm multiplies the two smallest of three by 3 and (at least that) 2.
    assert (x.p, y.p) == pytest.approx((3 * 2 / 1024, 3 * 2 / 1024))
    assert (x.finding, y.finding, third.finding) == ("explains", "against", "unclear")
    assert third.accuracy.value == pytest.approx(5.5 / 9) and third.missing == 1
    # |2p - 1| of 0.55 and 0.5 is below 0.2, that of 0.4 is 0.2.
    assert (third.decides.value, third.decides.n) == (pytest.approx(7 / 9), 9)
    assert (third.when_decided.value, third.when_decided.n) == (pytest.approx(4 / 7), 7)
    assert third.p == pytest.approx(2 * sum(math.comb(8, i) for i in range(4)) / 2**8)


def test_what_no_principle_speaks_for() -> None:
    rows = [
        case("for", 0.9, 0.1),
        case("silent", 0.55, 0.5),
        case("against", 0.1, 0.45),
        case("surely", 0.1, 0.05),
        case("missing", None, None),
    ]
    assert [spoken_for(row, 0.2) for row in rows] == ["for", "silent", "against", "against", "silent"]
    assert [row.pair.id for row in unexplained_cases(rows, 0.2)] == ["surely", "against", "missing", "silent"]
    rest = unexplained(rows[:4], rows[4:], 0.2, 2)
    assert (rest.silent, rest.against, rest.share.value) == (2, 2, 0.8)
    assert rest.shown == ("surely", "against")


def test_weights_worked_by_hand() -> None:
    """One column of ones: 10 / (1 + e^w) = ridge w, so a ridge of 10 / (1 + e) gives w = 1."""
    assert fit_weights([[1.0]] * 10, ridge=10 / (1 + math.e)) == pytest.approx([1.0])
    # Less confident votes are weighed up: the penalty is on what a column contributes.
    assert fit_weights([[0.1]] * 10, ridge=10 / (1 + math.e)) == pytest.approx([10.0])
    assert fit_weights([[-1.0, 0.0]] * 10) == [0.0, 0.0]


def test_weights_against_a_search() -> None:
    rows = [[0.6, -0.2], [-0.4, 0.5], [0.9, 0.3], [0.2, -0.7], [-0.1, 0.4], [0.5, 0.1]]
    scale = [math.sqrt(sum(row[at] ** 2 for row in rows) / 6) for at in (0, 1)]

    def loss(w: tuple[float, ...]) -> float:
        fit = sum(math.log1p(math.exp(-row[0] * w[0] - row[1] * w[1])) for row in rows)
        return fit + sum((s * x) ** 2 for s, x in zip(scale, w, strict=True)) / 2

    found = fit_weights(rows)
    best = min(product([i / 100 for i in range(400)], repeat=2), key=loss)
    assert found == pytest.approx(best, abs=0.01) and min(found) > 0
    assert loss(tuple(found)) <= loss(best) + 1e-9


def test_together_and_the_baselines() -> None:
    """`x` is right on all, `y` on none; preferred answers are longer on 8 of 10, and named first on 6."""

    def rows(name: str) -> list[Case]:
        answers = [("longer", "no")] * 8 + [("no", "longer")] * 2
        return [
            case(f"{name}{i}", 0.7, 0.3, first=i < 6, a=answers[i][i >= 6], b=answers[i][i < 6])
            for i in range(10)
        ]

    found = together(rows("t"), rows("h"), {"x": 1.0, "y": 2.0})
    assert (found.fitted.accuracy.value, found.constitution.accuracy.value) == (1.0, 0.0)
    assert found.weights == {"x": 1.0, "y": 0.0}
    assert (found.single.name, found.single.accuracy.value) == ("x alone", 1.0)
    assert [(rule.name, rule.accuracy.value) for rule in found.baselines] == [
        ("longer wins", 0.8),
        ("always A", 0.6),
    ]
    assert [(step.principle_id, step.held_out.value) for step in found.steps] == [("x", 1.0)]
    by_principle = alone(rows("h"), ["x", "y"], 0.2)
    explained, sentence = conclusion(by_principle, found, silent=False)
    assert explained and sentence.startswith("together the principles name the preferred answer in 1.00")
    assert conclusion(by_principle, found, silent=True)[0] is False


def test_a_file_that_always_names_the_preferred_answer_first_has_no_baseline_of_place() -> None:
    rows = [case(str(i), 0.7) for i in range(10)]
    assert [rule.name for rule in together(rows, rows, {"x": 1.0}).baselines] == ["longer wins"]


def test_a_shorter_answer_that_wins_is_a_baseline_too() -> None:
    """The direction is chosen in training; a rule is no better than it, and explains nothing."""
    rows = [case(str(i), 0.7, a="no", b="longer") for i in range(10)]
    found = together(rows, rows, {"x": 1.0})
    assert [(rule.name, rule.accuracy.value) for rule in found.baselines] == [("shorter wins", 1.0)]
    explained, sentence = conclusion(alone(rows, ["x"], 0.2), found, silent=False)
    assert not explained and sentence.endswith("better than 'shorter wins' (1.00)")


def test_the_greedy_order_adds_what_the_first_leaves() -> None:
    """`a` is right on 6 of 8 and wrong on 2, `b` says something of those 2 alone, `c` repeats `a` weakly."""
    rows = [case(str(i), 0.8, 0.5, 0.6) for i in range(6)] + [
        case(str(i), 0.4, 0.9, 0.45) for i in range(6, 8)
    ]
    found = together(rows, rows, {"a": 1.0, "b": 1.0, "c": 1.0})
    assert [step.principle_id for step in found.steps][:2] == ["a", "b"]
    assert [step.training.value for step in found.steps][:2] == [0.75, 1.0]


def test_what_the_fit_gets_wrong_goes_from_the_worst() -> None:
    rows = [case(str(i), 0.9) for i in range(8)] + [case("bad", 0.3), case("worse", 0.1), case("tie", 0.5)]
    assert [row.pair.id for row in wrong(rows)] == ["worse", "bad", "tie"]
