"""Filters of rows: each is a pure function that says why a text is not worth training on.

Start at `stage`, which the chain runs; `base` says what a filter is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitute.registry import registered

if TYPE_CHECKING:
    from constitute.stages.filters.base import RowFilter

# Name -> "module:object" of its `RowFilter`.
FILTERS: dict[str, str] = {
    "copies_critique": "constitute.stages.filters.copies:COPIES_CRITIQUE",
    "unchanged": "constitute.stages.filters.copies:UNCHANGED",
    "preamble": "constitute.stages.filters.preamble:FILTER",
    "leak": "constitute.stages.filters.leak:FILTER",
    "refusal": "constitute.stages.filters.refusal:FILTER",
    "language": "constitute.stages.filters.language:FILTER",
    "repetition": "constitute.stages.filters.repetition:FILTER",
    "reasoning": "constitute.stages.filters.reasoning:FILTER",
}


def filter_named(name: str) -> RowFilter:
    """The filter of that name; raises `UsageError` naming the nearest one that exists."""
    found: RowFilter = registered(FILTERS, name, "filter")
    return found
