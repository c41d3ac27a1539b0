"""Options read from a server's likeliest first tokens, with probabilities worked out by hand."""

from __future__ import annotations

import math

import pytest
from mock_openai import place

from constitute.engines.openai.options import choice_of, option_in
from constitute.engines.openai.wire_in import read_positions
from constitute.errors import RowError

AB = ("A", "B")


def read(*places, labels=AB):
    """The choice from places given as (token, {token: probability})."""
    content = [place(token, {each: math.log(p) for each, p in top.items()}) for token, top in places]
    choice = {"message": {"content": "x"}, "finish_reason": "length", "logprobs": {"content": content}}
    return choice_of(read_positions({"choices": [choice]}), labels)


def shares(choice):
    return [None if value is None else math.exp(value) for value in choice.logprobs]


def test_all_spellings_of_an_option_add_up_and_letters_keep_their_case():
    top = {"A": 0.30, " A": 0.10, "(A": 0.05, "**A": 0.04, '"A"': 0.01, "A)": 0.02, "B": 0.2, " B.": 0.03}
    top |= {"a": 0.1, "As": 0.05, "Apple": 0.02}
    choice = read(("A", top))
    assert shares(choice) == pytest.approx([0.52, 0.23])
    assert choice.censored == () and choice.mass == pytest.approx(0.75)
    words = read(("Yes", {"Yes": 0.5, "yes": 0.2, "YES": 0.1, "No": 0.1, " no": 0.05}), labels=("Yes", "No"))
    assert shares(words) == pytest.approx([0.8, 0.15])


def test_a_confident_answer_is_bounded_and_never_dropped():
    rest = {f"w{at}": 1e-6 * (at + 1) for at in range(19)}
    choice = read(("A", {"A": math.exp(-1e-4), **rest}))
    a, b = shares(choice)
    assert a == pytest.approx(math.exp(-1e-4)) and b == pytest.approx(1e-6)
    assert choice.censored == ("B",)
    # A server that lists one token alone leaves B no more than the rest of the probability.
    alone = read(("A", {"A": 0.9}))
    assert shares(alone) == pytest.approx([0.9, 0.1]) and alone.censored == ("B",)
    sure = read(("B", {"B": 1.0}))
    assert shares(sure) == pytest.approx([1e-6, 1.0]) and sure.censored == ("A",)


def test_neither_option_listed_is_no_reading():
    choice = read(("The", {"The": 0.9, "I": 0.05}))
    assert choice.logprobs == (None, None) and choice.mass == 0.0


@pytest.mark.parametrize("opening", ["(", "**", " (", "“", '"'])
def test_an_answer_that_opens_is_read_behind_the_opening_too(opening):
    choice = read(
        (opening, {opening: 0.978, "A": 0.015, "B": 0.007}),
        ("A", {"A": 0.7, "B": 0.25, "C": 0.05}),
        (")", {")": 0.99}),
    )
    assert shares(choice) == pytest.approx([0.015 + 0.978 * 0.7, 0.007 + 0.978 * 0.25])
    assert choice.censored == ()


def test_two_openings_in_a_row_are_read_through():
    choice = read(
        ("**", {"**": 0.9, "A": 0.05, "B": 0.05}),
        ("(", {"(": 0.8, "A": 0.1, "B": 0.1}),
        ("B", {"A": 0.25, "B": 0.75}),
    )
    assert shares(choice) == pytest.approx([0.05 + 0.09 + 0.72 * 0.25, 0.05 + 0.09 + 0.72 * 0.75])


def test_what_an_unlisted_place_may_hide_bounds_the_option_only_where_it_matters():
    # Behind the opening B is not listed: at most as likely as the least there, 0.01.
    choice = read(("(", {"(": 0.98, "A": 0.01, "B": 1e-5}), ("A", {"A": 0.97, "C": 0.01}))
    a, b = shares(choice)
    assert choice.censored == ("B",)
    assert b == pytest.approx(1e-5 + 0.98 * 0.01)
    assert a == pytest.approx(0.01 + 0.98 * 0.97)
    # Before the opening neither is listed: B may have there 30 % of what it has behind it.
    choice = read(("(", {"(": 0.98, "[": 0.003}), ("A", {"A": 0.98, "B": 0.01}))
    assert choice.censored == ("B",) and shares(choice)[1] == pytest.approx(0.0098 + 0.003)
    # Before the opening neither is listed; what they may have there is less than 1 % of what they have.
    choice = read(("(", {"(": 0.999, "[": 0.0005}), ("A", {"A": 0.7, "B": 0.3}))
    assert choice.censored == () and shares(choice) == pytest.approx([0.6993, 0.2997])


def test_a_rating_of_ten_is_no_one():
    ratings = tuple(str(rating) for rating in range(1, 11))
    rest = {str(rating): 0.02 for rating in range(2, 10)}
    # A tokenizer that splits digits: after 1 comes 0 or the end.
    choice = read(("1", {"1": 0.8, **rest}), ("0", {"0": 0.9, "</s>": 0.1}), labels=ratings)
    found = dict(zip(ratings, shares(choice), strict=True))
    assert found["10"] == pytest.approx(0.72) and found["1"] == pytest.approx(0.08)
    assert found["2"] == pytest.approx(0.02) and choice.mass == pytest.approx(0.96)
    assert choice.censored == ()
    # 1 is likely and was not followed: 10 is bounded, and the label method abstains.
    choice = read(("7", {"7": 0.6, "1": 0.3, **rest}), labels=ratings)
    assert choice.censored == ("10",)


def test_a_token_that_was_drawn_from_below_the_list_counts_as_well():
    content = [place("B", {"A": math.log(0.8), "C": math.log(0.1)})]
    content[0]["logprob"] = math.log(0.05)
    body = {"choices": [{"finish_reason": "stop", "logprobs": {"content": content}}]}
    assert shares(choice_of(read_positions(body), AB)) == pytest.approx([0.8, 0.05])


def test_labels_are_read_by_their_bare_form_and_long_ones_not_at_all():
    choice = read(("(", {"(": 0.9, "A": 0.1}), ("A", {"A": 0.6, "B": 0.4}), labels=(" (A)", " (B)"))
    assert choice.labels == (" (A)", " (B)")
    assert shares(choice) == pytest.approx([0.64, 0.36])
    choice = read(("A", {"A": 0.9, "B": 0.1}), labels=("A", "a whole reply"))
    assert choice.logprobs[1] is None
    with pytest.raises(RowError, match="cannot be told apart"):
        read(("A", {"A": 0.9}), labels=("A", "(A)"))


def test_what_begins_with_an_option_and_goes_on_is_another_word():
    said = {text: option_in(text, AB) for text in ("A", "A)", "A.", "A\n", "As", "AB", "A-", "a", "(", "")}
    assert said == {
        "A": "A", "A)": "A", "A.": "A", "A\n": "A", "As": None, "AB": None, "A-": None, "a": None,
        "(": None, "": None,
    }  # fmt: skip


@pytest.mark.parametrize("token", ["<think>", "[THINK]", "<|channel|>"])
def test_a_model_that_thinks_first_is_told_apart(token):
    with pytest.raises(RowError, match="thinks before it answers"):
        read((token, {token: 0.99, "A": 0.01}))
