"""Pairs whose P(A) is known without people: the same answer twice, and a pair in the other order.

A constitution's own examples are pairs too, with the better answer known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from constitute.constitution.examples import alone, example_pairs
from constitute.templates import render
from constitute.types import Comparison, Constitution

NEUTRAL, SWAPPED = "neutral", "swapped"


def neutral_copies(pairs: Sequence[Comparison]) -> Iterator[Comparison]:
    """Each pair's first answer against itself with a neutral sentence more; every second has that as A."""
    sentence = render("neutral")
    for at, pair in enumerate(pairs):
        short, long = pair.a, f"{pair.a} {sentence}"
        a, b = (short, long) if at % 2 else (long, short)
        yield Comparison(id=f"{pair.id}-{NEUTRAL}", prompt=pair.prompt, a=a, b=b)


def swapped_copies(pairs: Sequence[Comparison]) -> Iterator[Comparison]:
    """Each pair with its answers in each other's place, under the same id: the same principles vote on it."""
    return (pair.swap() for pair in pairs)


def example_questions(constitution: Constitution) -> tuple[list[Comparison], dict[str, Constitution]]:
    """The principles' own examples but drafts, every second with the better answer as A, and who votes."""
    pairs: list[Comparison] = []
    voters: dict[str, Constitution] = {}
    for principle, number, example, pair in example_pairs(constitution):
        if not example.draft:
            pair = pair.model_copy(update={"id": f"{principle.id}-{number}"})
            pairs.append(pair if number % 2 else pair.swap())
            voters[pair.id] = alone(constitution, principle)
    return pairs, voters
