"""The kinds of eval items and their registry: one module a kind writes, judges and scores its items.

Start at `base` for what a family is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitute.errors import UsageError
from constitute.registry import registered

if TYPE_CHECKING:
    from constitute.evals.families.base import FamilySpec
    from constitute.types import EvalItem

# Name -> "module:object" of its `FamilySpec`.
FAMILIES: dict[str, str] = {
    "persona": "constitute.evals.families.persona:FAMILY",
    "reply": "constitute.evals.families.reply:FAMILY",
    "choice": "constitute.evals.families.choice:FAMILY",
    "sycophancy": "constitute.evals.families.sycophancy:FAMILY",
    "winogender": "constitute.evals.families.winogender:FAMILY",
    "probe": "constitute.evals.families.probe:FAMILY",
}


def family_spec(name: str) -> FamilySpec:
    """The family of that name; raises `UsageError` naming the nearest one that exists."""
    spec: FamilySpec = registered(FAMILIES, name, "family of eval items")
    return spec


def recognise(item: EvalItem) -> str:
    """The family of an item that was read from a file. Raises `UsageError` where no family recognises it."""
    # Later families are more special than those they were added to.
    for name in reversed(FAMILIES):
        if family_spec(name).recognises(item):
            return name
    raise UsageError(f"item {item.id} is of no family that is known: {', '.join(FAMILIES)}")
