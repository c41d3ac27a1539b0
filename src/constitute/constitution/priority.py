"""The levels of principles: which one goes before which where they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from constitute.errors import DataError
from constitute.types import Constitution

# The levels of authority of the OpenAI Model Spec, the highest first.
DEFAULT_LEVELS = ("root", "system", "developer", "user", "guideline")


def level_names(constitution: Constitution) -> tuple[str, ...]:
    """The names of the levels, the highest first."""
    return constitution.priorities or DEFAULT_LEVELS


def levels(constitution: Constitution) -> dict[str, int]:
    """By principle id its level, 0 the highest; one without a priority stands on the last."""
    names = level_names(constitution)
    return {p.id: names.index(p.priority) if p.priority else len(names) - 1 for p in constitution.principles}


def by_level(constitution: Constitution) -> tuple[tuple[str, frozenset[str]], ...]:
    """Each level's name with the ids of the principles on it, the highest first; a level may be empty."""
    level = levels(constitution)
    return tuple(
        (name, frozenset(each for each, at in level.items() if at == place))
        for place, name in enumerate(level_names(constitution))
    )


def merge_levels(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One order of levels that keeps the order of every list; `DataError` where two contradict each other."""
    graph: TopologicalSorter[str] = TopologicalSorter()
    for names in lists:
        for above, below in zip((None, *names), names, strict=False):
            graph.add(below, *((above,) if above is not None else ()))
    try:
        return tuple(graph.static_order())
    except CycleError as found:
        circle = " above ".join(reversed(found.args[1]))
        raise DataError(
            f"the files order their priorities against each other ({circle}); give them the same order"
        ) from None
