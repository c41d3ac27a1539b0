"""Findings from votes: each rule at and beside its bound, by counts worked out by hand."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import pytest

from constitute.editing.lint.between import (
    between,
    contradictions,
    leans_apart,
    mean_column,
    redundancies,
    suspects,
)
from constitute.editing.lint.effects import (
    Bounds,
    Column,
    decided,
    lean_most,
    negation,
    order_bias,
    preferred,
    silence,
    weak_judge,
    wording,
)
from constitute.stats import correlation, wilson


def column(text: str) -> list[tuple[float, float] | None]:
    """One vote a sign: A and B by 0.9, `a` and `b` by 0.55, `c` and `d` by 0.52, < and > by place.

    `.` is no vote, `=` an undecided one.
    """
    shown = {
        "A": (0.9, 0.9),
        "B": (0.1, 0.1),
        "a": (0.55, 0.55),
        "b": (0.45, 0.45),
        "c": (0.52, 0.52),
        "d": (0.48, 0.48),
        "=": (0.5, 0.5),
        "<": (0.9, 0.1),  # what is shown first, in both orders
        ">": (0.1, 0.9),
        ".": None,
    }
    return [shown[sign] for sign in text]


def turned(text: str) -> str:
    return text.translate(str.maketrans("ABab<>", "BAba><"))


HALF = "AB" * 16


# What a vote decides


def test_a_side_needs_the_margin_and_reaches_it_exactly() -> None:
    assert [preferred(v) for v in ((0.9, 0.9), (0.1, 0.1), (0.5, 0.5), (0.9, 0.1))] == [1, -1, 0, 0]
    # P(A) = 0.6 is |2 P - 1| = 0.2, whose floating point falls short of it; 0.599 is not enough.
    assert preferred((0.6, 0.6), 0.2) == 1 and preferred((0.4, 0.4), 0.2) == -1
    assert preferred((0.599, 0.6), 0.2) == 0 and preferred((0.7, 0.5), 0.2) == 1
    assert decided(column("A.b=B"), 0.2) == [0, 4] and decided(column("A.b=B"), 0.05) == [0, 2, 4]


def test_two_principles_are_counted_where_both_decide() -> None:
    rows = between({"x": column("AABB.a="), "y": column("ABAA" + "AAA")}, Bounds(margin=0.2))
    assert [(r.first, r.second, r.n, r.opposite) for r in rows] == [("x", "y", 4, 3)]


def test_correlation_by_hand() -> None:
    # x - 2 = -1 0 1, y - 2 = -1 1 0: covariance 1, variances 2 and 2.
    assert correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    assert correlation([1, 2], [4, 2]) == pytest.approx(-1.0)
    assert correlation([1, 1, 1], [1, 2, 3]) is None and correlation([1], [2]) is None


# Contradictions


def test_a_contradiction_is_found_with_its_counts_interval_and_p() -> None:
    found = contradictions({"x": column("AB" * 5), "y": column(turned("AB" * 5))})
    assert [(f.rule, f.severity, f.principle) for f in found] == [("contradiction", "warning", "x")]
    # 10 of 10 opposite: p = 2 / 2^10, one comparison, so nothing to adjust.
    assert found[0].figure["p"] == pytest.approx(2 / 1024)
    assert (found[0].figure["count"], found[0].figure["n"]) == (10, 10)
    assert (found[0].figure["low"], found[0].figure["high"]) == wilson(10, 10)
    assert "x and y" in found[0].message and "10 of 10" in found[0].message and found[0].fix


def test_holm_counts_all_principles_compared() -> None:
    # 8 of 8 opposite: p = 2/2^8 = 0.0078. Alone it stands; with four principles there are 6 comparisons,
    # and 0.0078 x 6 = 0.047 stands too; with five there are 10 and 0.078 does not.
    def votes(extra: int) -> dict[str, Column]:
        # The others are opposite to x, to y and to each other on exactly half of the pairs.
        halves = ["AABBAABB", "AAAABBBB", "ABBAABBA"]
        more = {f"z{at}": column(halves[at]) for at in range(extra)}
        return {"x": column("ABABABAB"), "y": column("BABABABA"), **more}

    assert len(contradictions(votes(0))) == 1
    assert [f.figure["p"] for f in contradictions(votes(2))] == [pytest.approx(6 / 128)]
    assert contradictions(votes(3)) == []


def test_what_is_no_contradiction() -> None:
    # 7 pairs are under the least; 22 of 32 (p = 0.05) and 23 of 32 (0.02, but 72 %) are under the share.
    assert contradictions({"x": column("ABABABA"), "y": column("BABABAB")}) == []
    for opposite, expected in ((22, 0), (23, 0), (24, 1), (32, 1)):
        y = turned(HALF[:opposite]) + HALF[opposite:]
        assert len(contradictions({"x": column(HALF), "y": column(y)})) == expected, opposite
    # Votes that hardly differ from a coin's are no disagreement.
    assert contradictions({"x": column(HALF), "y": column("dc" * 16)}) == []


def test_a_principle_that_decides_nothing_contradicts_by_its_leaning() -> None:
    (found,) = contradictions({"x": column(HALF), "y": column(turned(HALF).lower())})
    assert (found.figure["n"], found.figure["shared"]) == (0, 32)
    assert found.figure["correlation"] == pytest.approx(-1.0)
    assert "correlate at -1.00" in found.message


def leaning(r: float, n: int) -> list[tuple[float, float] | None]:
    """Votes of n pairs (a multiple of 4) that correlate with HALF at `r`: of both signs, by what is alike."""
    # x = +-1 in turn, z = +-1 in twos: uncorrelated. y = r x + sqrt(1 - r^2) z has the correlation r.
    x, z = [1, -1] * (n // 2), [1, 1, -1, -1] * (n // 4)
    y = [r * a + math.sqrt(1 - r * r) * b for a, b in zip(x, z, strict=True)]
    return [(0.5 + 0.1 * v, 0.5 + 0.1 * v) for v in y]


@pytest.mark.parametrize(
    ("r", "n", "expected"),
    [
        (-0.69, 400, 0),  # under the bound, however many pairs
        (-0.71, 400, 1),
        # Against -0.5: z = (atanh(-0.71) + atanh(0.5)) sqrt(n - 3), p = 0.055 for 24 pairs, 0.046 for 28.
        (-0.71, 24, 0),
        (-0.71, 28, 1),
        (-0.95, 16, 1),
        (-0.95, 12, 0),  # too few pairs
    ],
)
def test_leanings_need_the_correlation_and_the_pairs(r: float, n: int, expected: int) -> None:
    votes = {"x": column("AB" * (n // 2)), "y": leaning(r, n)}
    found = contradictions(votes)
    assert len(found) == expected
    if found:
        assert found[0].figure["correlation"] == pytest.approx(r)
        p = NormalDist().cdf((math.atanh(r) + math.atanh(0.5)) * math.sqrt(n - 3))
        assert found[0].figure["p"] == pytest.approx(p)


def test_other_words_count_only_where_its_own_are_mute() -> None:
    votes = {"x": column(HALF), "y": column("AABB" * 8)}
    assert contradictions(votes) == []
    (found,) = contradictions(votes, {"y": column(turned(HALF))})
    assert "said in other words" in found.message
    # Read as it stands, y agrees with x: a paraphrase that says the contrary is the paraphrase's fault.
    assert contradictions({**votes, "y": leaning(0.6, 32)}, {"y": column(turned(HALF))}) == []


def test_who_is_asked_again() -> None:
    lean = {"x": column(HALF), "y": leaning(-0.4, 32), "z": leaning(-0.2, 32)}
    assert suspects(lean, {}) == [("x", "y")]
    # Three pairs make a correlation of -1, and no contradiction.
    three = {"x": column("ABA" + "=" * 29), "y": column("BAB" + "=" * 29)}
    assert (contradictions(three), suspects(three, {})) == ([], [("x", "y")])
    few = {"x": column("ABAB" + "=" * 8), "y": column("BABB" + "=" * 8)}
    assert suspects(few, {}) == [("x", "y")]


def test_one_that_decides_shows_what_the_other_leans_to() -> None:
    # Pairs that x leaves open do not count, and y's slightest lean does.
    votes = {"x": column("AB" * 6 + "a" * 4), "y": column("dc" * 6 + "a" * 4)}
    found = leans_apart("x", "y", votes, among=1)
    assert found is not None and (found.figure["count"], found.figure["n"]) == (12, 12)
    assert found.figure["p"] == pytest.approx(2 / 2**12)
    assert leans_apart("y", "x", votes, among=1) is None  # y decides nothing
    # 8 of 8 have a lower end of 0.68; 18 of 20 have 0.70 (0.699), 19 of 20 have 0.76.
    assert leans_apart("x", "y", {"x": column("A" * 8), "y": column("d" * 8)}, 1) is None
    assert leans_apart("x", "y", {"x": column("A" * 20), "y": column("d" * 18 + "cc")}, 1) is None
    assert leans_apart("x", "y", {"x": column("A" * 20), "y": column("d" * 19 + "c")}, 1) is not None
    # p = 2 / 2^12 is 0.0005: too much among 200 twos.
    assert leans_apart("x", "y", votes, among=200) is None


def test_the_mean_of_columns_is_over_those_that_voted() -> None:
    assert mean_column([column("A.."), column("Ba.")]) == [(0.5, 0.5), (0.55, 0.55), None]


def test_pairs_on_which_principles_lean_most() -> None:
    assert lean_most([column("aA=B"), column("aaBB")], 2) == [1, 3]


# A judge that is too weak


def test_examples_tell_what_a_judge_understands() -> None:
    votes = {"x": column(HALF), "y": column("AABB" * 8)}
    assert weak_judge(votes, {"x": [True, True], "y": [True, True]}) == ([], set())
    (found,), unheard = weak_judge(votes, {"x": [True, True], "y": [True, False]})
    assert (found.rule, found.principle, unheard) == ("fails-examples", "y", {"y"})
    assert (found.figure["count"], found.figure["n"]) == (1, 2)
    # 6 of 8 have a lower end of 0.41: chance would do. 8 of 8 have 0.68.
    (about,), unheard = weak_judge(votes, {"x": [True] * 4, "y": [True, True, False, False]})
    assert (about.rule, about.principle, unheard) == ("judge-too-weak", "", {"x", "y"})
    assert weak_judge(votes, {"x": [True] * 4, "y": [True] * 4}) == ([], set())


def test_a_judge_that_decides_little_is_said_to_be_weak() -> None:
    loud, quiet = column(HALF), column("=" * 32)
    assert weak_judge({"x": loud, "y": quiet}, {}) == ([], set())
    (found,), unheard = weak_judge({"x": loud, "y": quiet, "z": quiet}, {})
    assert (found.rule, unheard) == ("judge-too-weak", set())
    assert "1 of 3 principles decide 8 pairs or more" in found.message


# Redundancy


@pytest.mark.parametrize(("wrong", "expected"), [(0, 1), (1, 1), (2, 0)])
def test_redundant_is_95_percent_of_32(wrong: int, expected: int) -> None:
    # 31 of 32 is 96.9 % with a lower end of 0.843; r of 31/32 balanced votes is 0.94. 30 of 32 is 93.8 %.
    y = turned(HALF[:wrong]) + HALF[wrong:]
    found = redundancies({"x": column(HALF), "y": column(y)})
    assert len(found) == expected
    if wrong == 1:
        assert found[0].figure["count"] == 31 and found[0].figure["low"] == pytest.approx(0.8426, abs=1e-4)
        assert 0.93 < found[0].figure["correlation"] < 0.95


def test_redundancy_needs_pairs_enough_and_votes_that_vary() -> None:
    # n/(n + 1.96^2) is 0.676 for 8 and 0.701 for 9.
    for n, expected in ((8, 0), (9, 1)):
        assert len(redundancies({"x": column(HALF[:n]), "y": column(HALF[:n])})) == expected
    # Two that always say A agree on every pair and show nothing.
    assert redundancies({"x": column("A" * 32), "y": column("A" * 32)}) == []


def test_a_group_is_one_finding_and_others_stay_out() -> None:
    other = "AABB" * 8
    votes = {"p": column(other), "x": column(HALF), "y": column(HALF), "q": column(other), "z": column(HALF)}
    found = redundancies(votes)
    assert [f.principle for f in found] == ["p", "x"]
    assert "p and q" in found[0].message and "x, y and z" in found[1].message
    assert [f.figure["size"] for f in found] == [2, 3] and "3 times" in found[1].fix


def test_a_group_names_its_least_alike() -> None:
    # x and z differ from y on one pair each, and from each other on two: y joins them.
    y, x, z = HALF, turned("A") + HALF[1:], HALF[:-1] + turned("B")
    (found,) = redundancies({"x": column(x), "y": column(y), "z": column(z)})
    assert (found.figure["count"], found.figure["n"], found.figure["size"]) == (30, 32, 3)


# Wording, negation, order, silence


def test_wording_counts_pairs_that_change_under_any_wording() -> None:
    base = column("A" * 8 + "B" * 8 + "a" * 4)
    same, one, two = "A" * 8 + "B" * 8, "B" + "A" * 7 + "B" * 8, "BB" + "A" * 6 + "B" * 7 + "A"
    others = [column(text + "bbbb") for text in (same, one, two)]
    found = wording("x", base, others)
    # Pairs 0, 1 and 15 change; the four undecided pairs do not count. Four votes of 48 move, by 0.8 each.
    assert (found.figure["count"], found.figure["n"]) == (3, 16)
    assert found.figure["mean_change"] == pytest.approx(4 * 0.8 / 48)
    assert found.severity == "note" and found.fix == ""  # the lower end of 3/16 is 0.066
    assert found.figure["low"] == pytest.approx(wilson(3, 16)[0])


@pytest.mark.parametrize(("flipped", "severity"), [(6, "note"), (7, "warning")])
def test_wording_warns_past_its_bound(flipped: int, severity: str) -> None:
    assert wilson(6, 32)[0] < 0.1 < wilson(7, 32)[0]
    others = [column(HALF), column(turned(HALF[:flipped]) + HALF[flipped:])]
    found = wording("x", column(HALF), others, failed=2)
    assert (found.severity, bool(found.fix)) == (severity, severity == "warning")
    assert found.figure["failed"] == 2 and "2 of the model's answers" in found.message


def test_too_few_wordings_are_said_and_not_judged() -> None:
    found = wording("x", column(HALF), [column(turned(HALF))], failed=5)
    assert found.severity == "note" and found.figure["n"] == 0 and "only 1 of 3" in found.message


def test_a_wording_without_a_vote_leaves_its_pair_out() -> None:
    found = wording("x", column("AAAB"), [column("A.BB"), column("AAAB")])
    assert (found.figure["n"], found.figure["count"]) == (3, 1)


@pytest.mark.parametrize(("kept", "severity"), [(0, "note"), (10, "note"), (11, "warning"), (32, "warning")])
def test_negation_must_turn_labels_round(kept: int, severity: str) -> None:
    # 22 of 32 may still be 0.8 by its upper end, 0.82; 21 of 32 may not, 0.796.
    assert wilson(21, 32)[1] < 0.8 < wilson(22, 32)[1]
    found = negation("x", column(HALF), column(HALF[:kept] + turned(HALF[kept:])))
    assert (found.figure["count"], found.severity) == (32 - kept, severity)


@pytest.mark.parametrize(("n", "severity"), [(1, "note"), (7, "note"), (8, "warning")])
def test_a_few_pairs_are_no_reason_to_warn(n: int, severity: str) -> None:
    # The interval of 0 of 1 ends at 0.793, that of 1 of 1 begins at 0.207: both beyond the bounds.
    assert wilson(0, 1)[1] < 0.8 and wilson(1, 1)[0] > 0.1
    same, other = column("A" * n), column("B" * n)
    assert negation("x", same, same).severity == severity
    assert wording("x", same, [other, other]).severity == severity
    place = order_bias("x", column("<" * n))
    assert place is not None and place.severity == severity


def test_a_negation_that_ends_undecided_has_not_turned() -> None:
    found = negation("x", column("ABAB."), column("BA=.A"))
    assert (found.figure["count"], found.figure["n"]) == (2, 3)


def test_order_bias_by_hand() -> None:
    # 8 of 16 pairs go by place, always to the first: P(first) is 0.9 there and 0.5 elsewhere.
    found = order_bias("x", column("<" * 8 + HALF[:8] + "====.."), seed=1)
    assert found is not None and found.severity == "warning"  # the lower end of 8/16 is 0.28
    assert (found.figure["differ"], found.figure["n"], found.figure["first_n"]) == (8, 16, 20)
    assert found.figure["first"] == pytest.approx((8 * 0.9 + 12 * 0.5) / 20)
    assert found.figure["first_low"] < found.figure["first"] < found.figure["first_high"]
    other = order_bias("x", column(">" * 8 + HALF[:8]), seed=1)
    assert other is not None and other.figure["first"] == pytest.approx(0.3)


def test_orders_that_agree_or_decide_nothing_raise_no_warning() -> None:
    found = order_bias("x", column("<<" + HALF[:30]))
    assert found is not None and found.severity == "note" and found.figure["differ"] == 2
    assert order_bias("x", column("==..")) is None and order_bias("x", column("")) is None
    # 0.55 and 0.45 are two sides of a coin, not an order that decides.
    assert order_bias("x", [(0.55, 0.45)] * 9) is None


def test_silence_is_noted_and_no_vote_at_all_is_a_warning() -> None:
    quiet = silence("x", column("abab=."))
    assert quiet is not None and quiet.severity == "note"
    assert quiet.figure["n"] == 5 and quiet.figure["most"] == pytest.approx(0.1)
    assert silence("x", column("abA")) is None
    mute = silence("x", column("..."), "no mass")
    assert mute is not None and mute.severity == "warning" and "no mass" in mute.message


def test_unrelated_votes_raise_few_false_alarms() -> None:
    # 5 independent coins on 32 pairs, 200 times: Holm keeps contradictions to 5 % of them, and redundancy
    # needs 31 of 32. The share of 75 % makes it rarer still.
    rng = random.Random(0)
    alarms = 0
    for _ in range(200):
        votes = {name: column("".join(rng.choice("AB") for _ in range(32))) for name in "vwxyz"}
        alarms += bool(contradictions(votes) or redundancies(votes))
    assert alarms <= 16  # 10 expected at most; P(more than 16 at 5 %) is 0.02
