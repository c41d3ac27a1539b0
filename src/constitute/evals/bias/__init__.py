"""Moral self-correction: what an instruction, and reasoning, do to bias on public sets (arXiv 2302.07459).

Start at `run`. `SETS` holds the sets, `CONDITIONS` the ways to ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from constitute.registry import registered

if TYPE_CHECKING:
    from constitute.evals.bias.base import BiasSet


class Condition(NamedTuple):
    """How a question is asked: with the instruction to be fair, and with reasoning before the answer."""

    instructed: bool
    reasoned: bool


CONDITIONS: dict[str, Condition] = {
    "question": Condition(instructed=False, reasoned=False),
    "instruction": Condition(instructed=True, reasoned=False),
    "reasoning": Condition(instructed=True, reasoned=True),
}

# Name -> "module:object" of its `BiasSet`.
SETS: dict[str, str] = {
    "bbq": "constitute.evals.bias.bbq:BBQ",
    "winogender": "constitute.evals.bias.pronouns:WINOGENDER",
    "winogenerated": "constitute.evals.bias.pronouns:WINOGENERATED",
}


def bias_set(name: str) -> BiasSet:
    """The set of that name; raises `UsageError` naming the nearest one that exists."""
    found: BiasSet = registered(SETS, name, "bias set")
    return found


def condition(name: str) -> Condition:
    """The condition of that name; raises `UsageError` naming the nearest one that exists."""
    found: Condition = registered(CONDITIONS, name, "condition")
    return found
