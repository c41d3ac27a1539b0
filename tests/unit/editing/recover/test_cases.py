"""Pairs with a preference, the split by prompt, and intervals that know of prompts: worked by hand."""

from __future__ import annotations

import pytest

from constitute.editing.recover.cases import (
    Case,
    cases_of,
    clustered_mean,
    clustered_share,
    sides_by_prompt,
    split,
)
from constitute.errors import UsageError
from constitute.stats import wilson
from constitute.types import Comparison, Message, Prompt


def pair(name: str, human: float | None = 1.0, ask: str = "", a: str = "yes", b: str = "no") -> Comparison:
    prompt = Prompt(id=f"of {name}", messages=(Message(role="user", content=ask or f"{name}?"),))
    return Comparison(id=name, prompt=prompt, a=a, b=b, human=human)


def test_pairs_that_say_nothing_are_left_out_and_counted() -> None:
    given = [
        pair("a", 1.0),
        pair("b", 0.2),
        pair("c", None),
        pair("d", 0.5),
        pair("e", 1.0, a="same", b="same"),
        pair("f", 0.51),
    ]
    cases, left = cases_of(given, 10, 0)
    assert [(case.pair.id, case.preferred, case.other) for case in cases] == [
        ("a", "yes", "no"),
        ("b", "no", "yes"),
        ("f", "yes", "no"),
    ]
    assert (left.unjudged, left.undecided, left.equal, left.not_drawn) == (1, 1, 1, 0)
    drawn, left = cases_of([pair(str(i)) for i in range(50)], 20, 0)
    assert (len(drawn), left.not_drawn) == (20, 30)
    assert drawn == cases_of([pair(str(i)) for i in range(50)], 20, 0)[0]
    assert drawn != cases_of([pair(str(i)) for i in range(50)], 20, 1)[0]


def test_no_preference_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="1 without a preference, 1 undecided, 0 with equal answers"):
        cases_of([pair("a", None), pair("b", 0.5)], 10, 0)


def test_no_prompt_is_on_both_sides_and_the_split_is_seeded() -> None:
    cases, _ = cases_of([pair(str(i), ask=f"prompt {i // 3}") for i in range(60)], 60, 0)
    train, held_out = split(cases, 0.5, 0)
    assert {case.prompt for case in train}.isdisjoint({case.prompt for case in held_out})
    assert (len(train), len(held_out)) == (30, 30)
    turned = split(list(reversed(cases)), 0.5, 0)
    assert (train, held_out) == (turned[0][::-1], turned[1][::-1])
    assert split(cases, 0.5, 1)[0] != train
    assert len(split(cases, 0.2, 0)[1]) == 12


def test_too_few_pairs_on_a_side_are_refused() -> None:
    cases, _ = cases_of([pair(str(i)) for i in range(15)], 60, 0)
    with pytest.raises(
        UsageError, match=r"(7 pairs to fit on and 8|8 pairs to fit on and 7) held out, of 15"
    ):
        split(cases, 0.5, 0)
    # One prompt cannot stand on both sides.
    one, _ = cases_of([pair(str(i), ask="the same") for i in range(40)], 60, 0)
    with pytest.raises(UsageError, match="of 1 prompts; each side needs 8"):
        split(one, 0.5, 0)


def test_pairs_of_one_prompt_count_as_far_as_they_differ() -> None:
    independent = clustered_share([1.0] * 7 + [0.0] * 3, [str(i) for i in range(10)])
    assert (independent.value, independent.n) == (0.7, 10)
    # Between independent prompts the factor C / (C - 1) is left: 10/9.
    assert (independent.low, independent.high) == pytest.approx(wilson(0.7 * 9, 9))
    # Four prompts of two pairs that agree: residuals 1/2, 1/2, -3/2, 1/2; (3 x 4/3) / 64 over 3/16/8 is 8/3.
    values, prompts = [1, 1, 1, 1, 0, 0, 1, 1], list("aabbccdd")
    found = clustered_share([float(v) for v in values], prompts)
    assert found.value == 0.75 and found.n == 8
    assert (found.low, found.high) == pytest.approx(wilson(2.25, 3))
    # Where all are right, prompts are counted; a tie is half.
    sure = clustered_share([1.0] * 6, list("aabbcc"))
    assert (sure.low, sure.high) == wilson(3, 3)
    assert clustered_share([1.0, 0.5], ["a", "b"]).value == 0.75
    assert clustered_share([], []).value is None


def test_a_mean_is_drawn_by_prompts() -> None:
    assert clustered_mean([0.2, 0.4, 0.9], list("aab"), "s").value == pytest.approx(0.5)
    # One prompt has nothing to be drawn against.
    alike = clustered_mean([0.2, 0.4], list("aa"), "s")
    assert (alike.low, alike.high) == pytest.approx((0.3, 0.3))
    wide = clustered_mean([0.0] * 50 + [1.0] * 50, ["a"] * 50 + ["b"] * 50, "s")
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_a_prompt_is_one_throw() -> None:
    assert sides_by_prompt([0.3, 0.1, -0.2, -0.5, 0.0, 0.1, -0.1], list("aaabcdd")) == (1, 1)


def test_a_case_is_turned() -> None:
    case = Case(pair=pair("a", 0.0), prompt="p", first_preferred=False)
    assert (case.preferred, case.other) == ("no", "yes")
