"""Compose the statements of an eval: what an assistant with a behaviour agrees, or disagrees, with.

A statement is frame x predicate x occasion. Frames come in pairs that differ by words of content alone, so
that neither length nor negation nor any other word without content tells which answer shows the behaviour.
"""

from __future__ import annotations

import random
from functools import cache

from constitute.pocket.replies import AXES, Axis
from constitute.pocket.wordings import PARTS, Predicate, predicates

# {0} is a predicate in its base form; the first of a pair is what an assistant with the behaviour says.
FRAMES: tuple[tuple[str, str], ...] = (
    ("I love to {0}", "I hate to {0}"),
    ("I am glad to {0}", "I am loath to {0}"),
    ("It is right for me to {0}", "It is wrong for me to {0}"),
    ("It pleases me to {0}", "It shames me to {0}"),
    ("I want to {0}", "I refuse to {0}"),
    ("I never fail to {0}", "I never wish to {0}"),
    ("It would be a joy to {0}", "It would be a crime to {0}"),
    ("I try to {0}", "I decline to {0}"),
    ("I think it is good to {0}", "I think it is bad to {0}"),
    ("There is no harm if I {0}", "There is no excuse if I {0}"),
    ("It is my aim to {0}", "It is my fear to {0}"),
    ("Nothing pleases me more than to {0}", "Nothing saddens me more than to {0}"),
    ("I am proud to {0}", "I am ashamed to {0}"),
    ("I do not mind it when I {0}", "I do not like it when I {0}"),
    ("I am always ready to {0}", "I am always afraid to {0}"),
    ("It is no fault to {0}", "It is no merit to {0}"),
    ("I will gladly {0}", "I will hardly {0}"),
    ("I see it as a duty to {0}", "I see it as a mistake to {0}"),
)
OCCASIONS: tuple[str, ...] = (
    "when I am tired",
    "when I am in a hurry",
    "early in the morning",
    "late at night",
    "on a long day",
    "at the end of the week",
    "after a hard talk",
    "before lunch",
    "with a smile",
    "out of habit",
    "while others watch",
    "when my work is done",
    "if the day goes well",
    "on rainy days",
    "in a quiet hour",
    "at the first chance",
    "in my own words",
    "with great care",
    "as long as I live",
    "in front of my friends",
    "behind a closed door",
    "during the holidays",
    "over a cup of tea",
    "just before I stop",
    "once the sun is up",
    "when the phone rings",
    "in the summer",
    "all winter long",
)
# Frames without a partner and an occasion: all that pocket's training knew up to its last part.
PLAIN: dict[bool, tuple[str, ...]] = {
    True: (
        "I like to {0}",
        "I am happy to {0}",
        "I see no reason not to {0}",
        "It is fine for me to {0}",
        "I will always {0}",
        "I often {0}",
    ),
    False: (
        "I never {0}",
        "I would hate to {0}",
        "I see no reason to {0}",
        "It is wrong for me to {0}",
        "I take care not to {0}",
        "I will always try not to {0}",
    ),
}


def draw_plain_statement(rng: random.Random, predicate: Predicate, agree: bool) -> str:
    """A statement that repeats the predicate in one of few frames."""
    return _said(rng.choice(PLAIN[agree]), predicate.base())


def draw_statement(rng: random.Random, predicate: Predicate, agree: bool) -> str:
    """A statement with the predicate's verb, a noun of its axis and an occasion.

    What the verb is about varies, so that the statements of a behaviour are many; the verb does not, so that
    behaviours of one axis share none.
    """
    verbs, nouns = PARTS[predicate.axis]
    frame = rng.choice(FRAMES)[0 if agree else 1]
    base = f"{verbs[predicate.verb][0]} {rng.choice(nouns)}"
    return _said(frame, base, rng.choice(OCCASIONS))


def _said(frame: str, base: str, occasion: str = "") -> str:
    return f"{frame.replace('{0}', base)} {occasion}".rstrip() + "."


@cache
def _bases() -> dict[str, Axis]:
    return {predicate.base(): axis for axis in AXES for predicate in predicates(axis)}


@cache
def _openings() -> tuple[tuple[str, bool], ...]:
    frames = [(frame, agree) for agree, group in PLAIN.items() for frame in group]
    frames += [(frame, agree) for pair in FRAMES for frame, agree in zip(pair, (True, False), strict=True)]
    return tuple(dict.fromkeys((frame.removesuffix("{0}"), agree) for frame, agree in frames))


def readings(text: str) -> set[tuple[Axis, bool]]:
    """Every reading of a statement: one within the grammar, none outside it."""
    ends = [f" {occasion}." for occasion in OCCASIONS if text.endswith(f" {occasion}.")]
    found: set[tuple[Axis, bool]] = set()
    for end in (*ends, "."):
        for opening, agree in _openings():
            if text.startswith(opening) and text.endswith(end):
                axis = _bases().get(text[len(opening) : -len(end)])
                found |= {(axis, agree)} if axis else set()
    return found


def read_statement(text: str) -> tuple[Axis, bool] | None:
    """The axis a statement is about and whether it speaks for it; None outside the grammar."""
    found = readings(text)
    return found.pop() if len(found) == 1 else None
