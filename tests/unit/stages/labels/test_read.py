"""How answers become probabilities: bounds of censored options, and the grammar of sampled answers."""

from __future__ import annotations

import math

import pytest

from constitute.errors import Abstain
from constitute.stages.labels.rating import RATINGS
from constitute.stages.labels.read import of_answers, of_choice, option_of
from constitute.types import Choice

LETTERS = ("A", "B")


def choice(
    *values: float | None, censored: tuple[str, ...] = (), labels: tuple[str, ...] = LETTERS
) -> Choice:
    logs = tuple(None if value is None else math.log(value) for value in values)
    return Choice(labels=labels, logprobs=logs, censored=censored)


def test_a_bound_makes_the_preferred_share_a_lower_bound() -> None:
    found = of_choice(choice(0.99, 0.0001, censored=("B",)), "")
    assert found.shares == pytest.approx((0.99 / 0.9901, 0.0001 / 0.9901)) and found.censored
    # Whatever B really has, up to its bound, A's share is at least that.
    assert all(0.99 / (0.99 + b) >= found.shares[0] for b in (0.0, 1e-9, 0.00005, 0.0001))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (choice(0.9, None), "an option was not scored here"),
        (choice(1e-4, 1e-4, censored=LETTERS), "none of the options is among the tokens"),
        (
            choice(*[0.3, *[0.05] * 8, 0.001], censored=("10",), labels=RATINGS),
            "1 may be the beginning of 10",
        ),
    ],
)
def test_what_no_bound_can_tell_abstains(given: Choice, reason: str) -> None:
    with pytest.raises(Abstain, match=reason):
        of_choice(given, "here")


def test_an_unlisted_ten_is_a_bound_where_hardly_anything_begins_with_one() -> None:
    found = of_choice(choice(*[0.001, *[0.1] * 8, 0.0005], censored=("10",), labels=RATINGS), "")
    assert found.censored and found.shares[-1] == pytest.approx(0.0005 / 0.8015)


@pytest.mark.parametrize(
    "text", ["A", " A", "(A)", "**A**", "A.", "A) It is kinder.", "*(A)*: short", "A\nAs it"]
)
def test_answers_that_give_a_letter(text: str) -> None:
    assert option_of(text, LETTERS) == "A"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A better reply is B",
        "a",
        "AB",
        "Answer: A",
        "I choose A",
        "A.I. says B",
        "A/B",
        "A or B",
        "Both",
        "A-",
    ],
)
def test_answers_that_give_none(text: str) -> None:
    assert option_of(text, LETTERS) is None


def test_ratings_and_words() -> None:
    asked = {"10": "10", "**(1)**": "1", "7/10": "7", "7/10.": "7", "7.5": None, "100": None, "11": None}
    assert {text: option_of(text, RATINGS) for text in asked} == asked
    said = {
        "yes": "Yes",
        "NO.": "No",
        "Yes, it does.": "Yes",
        "No reply keeps to it": None,
        "Yesterday": None,
    }
    assert {text: option_of(text, ("No", "Yes")) for text in said} == said


def test_shares_are_of_what_was_parsed_and_mass_is_how_much_that_was() -> None:
    found = of_answers(["A", "(A)", "B.", "A is better", "I think B", "**A**", "A", "no"], LETTERS)
    assert found.shares == (0.8, 0.2) and (found.mass, found.samples) == (5 / 8, 8)
    assert of_answers(["none"] * 4, LETTERS).mass == 0.0
