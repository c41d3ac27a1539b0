"""Run the checks of an eval set, and mend it so that it passes those that leave items out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from constitute.evals.quality import CHECKS, quality_check
from constitute.evals.quality.base import Checked, Material
from constitute.evals.select import Selection
from constitute.types import EvalItem

# Why an item was left out, as `evals write` counts it.
_WHY = {
    "conflicts": "another says the same and has another answer",
    "leaks": "copies an example",
    "duplicates": "repeats another",
    "labels": "other label missing",
}


def check_set(material: Material, names: Sequence[str] = ()) -> tuple[Checked, ...]:
    """What the checks named find, all of them if none is."""
    return tuple(quality_check(name).find(material) for name in names or CHECKS)


def mended(material: Material, names: Sequence[str] = ()) -> tuple[tuple[EvalItem, ...], dict[str, int]]:
    """The items that stay once each check has left out what it must, and how many each left out.

    Checks that balance are asked until none of them leaves out more: labels, cues and words end up even
    together.
    """
    left_out: dict[str, int] = {}
    asked = list(names or CHECKS)
    while asked:
        before = len(material.items)
        for name in asked:
            mend = quality_check(name).mend
            if mend is None or not material.items:
                continue
            out = set(mend(material))
            left_out[name] = left_out.get(name, 0) + len(out)
            material = replace(material, items=[item for item in material.items if item.id not in out])
        balancing = [name for name in asked if quality_check(name).balances]
        asked = balancing if len(material.items) < before else []
    return tuple(material.items), left_out


def enforced(material: Material, chosen: Selection) -> Selection:
    """A selection that passes every check which no set is written without; what it loses is counted."""
    names = [name for name in CHECKS if quality_check(name).always]
    items, left_out = mended(replace(material, items=chosen.items), names)
    dropped = dict(chosen.dropped)
    for name, number in left_out.items():
        if number:
            dropped[_WHY[name]] = dropped.get(_WHY[name], 0) + number
    return Selection(items=items, dropped=dropped)
