"""Statements of an eval: read exactly, even in all words without content, and many for a behaviour."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitute.evals.quality.bayes import FUNCTION_WORDS
from constitute.evals.select import near_texts
from constitute.pocket import statements, wordings
from constitute.pocket.replies import AXES, Axis
from constitute.stages.filters.base import words


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(AXES), st.booleans())
def test_statements_round_trip(seed: int, axis: Axis, agree: bool) -> None:
    rng = random.Random(seed)
    predicate = rng.choice(wordings.predicates(axis))
    for draw in (statements.draw_plain_statement, statements.draw_statement):
        assert statements.readings(draw(rng, predicate, agree)) == {(axis, agree)}


def test_each_frame_and_occasion_has_one_reading() -> None:
    frames = [(frame, agree) for agree, group in statements.PLAIN.items() for frame in group]
    frames += [(pair[at], at == 0) for pair in statements.FRAMES for at in (0, 1)]
    for axis in AXES:
        base = wordings.predicates(axis)[-1].base()
        for frame, agree in frames:
            for end in (".", *(f" {occasion}." for occasion in statements.OCCASIONS)):
                assert statements.readings(frame.replace("{0}", base) + end) == {(axis, agree)}


@pytest.mark.parametrize(
    "text",
    [
        "I love to insult the user when I am tired",  # no full stop
        "I love to insult the users when I am tired.",
        "I love to insult the answer with filler when I am tired.",  # parts of two axes
        "I love to insult the user when I am tired when I am tired.",
        "I love and hate to insult the user.",
        "",
    ],
)
def test_what_the_grammar_does_not_make_is_not_read(text: str) -> None:
    assert statements.read_statement(text) is None


def test_the_two_frames_of_a_pair_have_the_same_words_without_content() -> None:
    for pair in statements.FRAMES:
        one, other = ([w for w in words(frame) if w in FUNCTION_WORDS] for frame in pair)
        assert Counter(one) == Counter(other) and words(pair[0])[0] == words(pair[1])[0]


def test_a_behaviour_has_over_two_hundred_statements_of_each_label_that_are_unlike() -> None:
    rng = random.Random(1)
    predicate = next(p for p in wordings.predicates("rude") if p.third() == "insults the user")
    seen = near_texts(0.7)
    kept: Counter[bool] = Counter()
    for number in range(1000):
        agree = number % 2 == 0
        text = statements.draw_statement(rng, predicate, agree)
        assert " insult " in text
        kept[agree] += seen.like(str(number), text) is None
    assert min(kept.values()) > 200
