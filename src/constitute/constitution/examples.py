"""A constitution's own examples as pairs to label, with the principle that each is about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import NamedTuple

from constitute.types import Comparison, Constitution, Example, Message, Principle, Prompt


class ExamplePair(NamedTuple):
    """An example, its number within its principle (from 1), and the pair with the better answer as A."""

    principle: Principle
    number: int
    example: Example
    pair: Comparison


def example_pairs(constitution: Constitution) -> Iterator[ExamplePair]:
    """Every example of every principle, drafts among them, in the order of the file.

    A pair's id follows from the principle's and the example's words, not from its place: an example that is
    put before another leaves the questions about that one as they were.
    """
    for principle in constitution.principles:
        for number, example in enumerate(principle.examples, 1):
            name = f"{principle.id}/{example_hash(example)[:16]}"
            prompt = Prompt(id=name, messages=(Message(role="user", content=example.prompt),))
            pair = Comparison(id=name, prompt=prompt, a=example.better, b=example.worse, human=1.0)
            yield ExamplePair(principle, number, example, pair)


def alone(constitution: Constitution, principle: Principle) -> Constitution:
    """The constitution of one principle, which votes whatever its weight is."""
    return constitution.model_copy(update={"principles": (principle.model_copy(update={"weight": 1.0}),)})


def example_hash(example: Example) -> str:
    """SHA-256 (hex) of what a judge may be shown of an example: its prompt and both answers."""
    text = json.dumps([example.prompt, example.better, example.worse])
    return hashlib.sha256(text.encode()).hexdigest()
