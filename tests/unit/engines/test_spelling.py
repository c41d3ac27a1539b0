"""Spellings: probabilities against brute-force enumeration, and which questions are asked for them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitute.engines.base import Ids
from constitute.engines.spelling import (
    LEAST_SHARE,
    read_options,
    sequences,
    shared,
    spellings,
)
from constitute.errors import RowError

VOCABULARY = range(5)
DEPTH = 4


def following(seed: int, prefix: Ids) -> list[float]:
    """P of each token after `prefix`, in a made-up model; a few tokens have nearly all of it."""
    rng = random.Random(f"{seed}:{prefix}")
    weights = [rng.random() ** 6 + 1e-9 for _ in VOCABULARY]
    return [weight / sum(weights) for weight in weights]


class Model:
    """Scores next tokens of the made-up model and counts what it is asked."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rounds: list[dict[Ids, tuple[int, ...]]] = []

    async def scores(self, wanted: Mapping[Ids, tuple[int, ...]]) -> dict[Ids, dict[int, float]]:
        self.rounds.append(dict(wanted))
        return {
            prefix: {token: math.log(following(self.seed, prefix)[token]) for token in tokens}
            for prefix, tokens in wanted.items()
        }


def by_enumeration(seed: int, options: Sequence[Sequence[Ids]]) -> list[float]:
    """P of each option: every answer of `DEPTH` tokens goes to the longest sequence that it begins with."""
    total: list[list[float]] = [[] for _ in options]
    owner = {ids: place for place, option in enumerate(options) for ids in option}
    for answer in itertools.product(VOCABULARY, repeat=DEPTH):
        begun = [ids for ids in owner if answer[: len(ids)] == ids]
        if begun:
            steps = (following(seed, answer[:at])[answer[at]] for at in range(DEPTH))
            total[owner[max(begun, key=len)]].append(math.prod(steps))
    return [math.fsum(found) for found in total]


@st.composite
def option_sets(draw: st.DrawFn) -> list[list[Ids]]:
    """Two to four options of one to four sequences each, nested ones among them, none twice."""
    ids = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=DEPTH).map(tuple)
    every = draw(st.lists(ids, min_size=4, max_size=12, unique=True))
    count = draw(st.integers(2, 4))
    return [every[place::count] for place in range(count)]


@settings(max_examples=60, deadline=None)
@given(options=option_sets(), seed=st.integers(0, 1000))
async def test_options_are_what_enumeration_says(options: list[list[Ids]], seed: int) -> None:
    found = await read_options(options, Model(seed).scores, least=0.0)
    assert [math.exp(value) for value in found] == pytest.approx(by_enumeration(seed, options), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(options=option_sets(), seed=st.integers(0, 1000))
async def test_what_is_left_unread_moves_no_option_by_more_than_its_bound(
    options: list[list[Ids]], seed: int
) -> None:
    model = Model(seed)
    found = [math.exp(value) for value in await read_options(options, model.scores)]
    exact = by_enumeration(seed, options)
    beginnings = {ids[:length] for option in options for ids in option for length in range(len(ids))}
    left = len(beginnings) - sum(map(len, model.rounds))
    reach = math.fsum(exact) / (1 - min(left * LEAST_SHARE, 0.5))
    assert found == pytest.approx(exact, abs=max(left * LEAST_SHARE * reach, 1e-9))


async def letters(first: dict[int, float], after: dict[Ids, dict[int, float]]) -> tuple[list[float], int]:
    """P of options A (token 1) and B (token 2), read plain, after "(" (token 3) or "**" (4); questions."""
    asked = 0

    async def scores(wanted: Mapping[Ids, tuple[int, ...]]) -> dict[Ids, dict[int, float]]:
        nonlocal asked
        asked += len(wanted)
        tables = {(): first, **after}
        return {
            prefix: {token: math.log(tables[prefix][token]) for token in tokens}
            for prefix, tokens in wanted.items()
        }

    options: list[list[Ids]] = [[(letter,), (3, letter), (4, letter)] for letter in (1, 2)]
    return [math.exp(value) for value in await read_options(options, scores)], asked


async def test_a_judge_that_opens_with_a_bracket_is_read_after_it() -> None:
    found, asked = await letters({1: 0.015, 2: 0.004, 3: 0.98, 4: 0.001}, {(3,): {1: 0.7, 2: 0.3}})
    assert asked == 2
    assert found == pytest.approx([0.015 + 0.98 * 0.7, 0.004 + 0.98 * 0.3], rel=1e-12)


async def test_one_question_is_enough_where_the_letters_come_first() -> None:
    found, asked = await letters({1: 0.6, 2: 0.38, 3: 0.009, 4: 0.001}, {})
    assert asked == 1 and found == pytest.approx([0.6, 0.38], rel=1e-12)


async def test_ten_is_read_after_one_and_taken_out_of_it() -> None:
    model = {(): {1: 0.5, 2: 0.4}, (1,): {0: 0.9}}

    async def scores(wanted: Mapping[Ids, tuple[int, ...]]) -> dict[Ids, dict[int, float]]:
        return {ids: {t: math.log(model[ids][t]) for t in tokens} for ids, tokens in wanted.items()}

    found = await read_options([[(1,)], [(2,)], [(1, 0)]], scores)
    assert [math.exp(value) for value in found] == pytest.approx([0.05, 0.4, 0.45], rel=1e-12)


def test_spellings_of_letters_and_of_words() -> None:
    assert spellings("A") == ("A", " A", "(A", " (A", "**A")
    assert spellings(" 10") == ("10", " 10", "(10", " (10", "**10")
    assert spellings("No")[5:] == ("no", " no", "(no", " (no", "**no")


def test_sequences_are_distinct_and_a_spelling_without_tokens_is_left_out() -> None:
    def ids_of(text: str) -> Ids:
        if "*" in text:
            raise RowError("no tokens of its own")
        return tuple(map(ord, text.strip()))

    assert sequences(("A", "B"), ids_of) == [((65,), (40, 65)), ((66,), (40, 66))]
    with pytest.raises(RowError, match="cannot tell the options 'A' and 'B' apart"):
        sequences(("A", "B"), lambda text: (0,))
    with pytest.raises(RowError, match="no tokens"):
        sequences(("*",), ids_of)


def test_what_every_spelling_begins_with_is_shared() -> None:
    assert shared([[(7, 8, 1), (7, 8, 3, 1)], [(7, 8, 2), (7, 8, 3, 2)]]) == (7, 8)
    assert shared([[(1,), (3, 1)], [(2,), (3, 2)]]) == ()
    # An option is never part of what is shared, even where another begins with it.
    assert shared([[(7, 1)], [(7, 1, 0)]]) == (7,)
