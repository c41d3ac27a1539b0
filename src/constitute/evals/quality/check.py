"""Run the checks of an eval set, and mend it so that it passes those that leave items out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from constitute.config.evals import EvalsConfig
from constitute.evals.quality import CHECKS, quality_check
from constitute.evals.quality.base import Checked, Material
from constitute.evals.quality.copies import leaks_of
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


def enforced(material: Material, chosen: Selection, only: Sequence[str] | None = None) -> Selection:
    """A selection that passes every check which no set is written without; what it loses is counted.

    `only` names the checks that mean something for such items, None for all.
    """
    known = CHECKS if only is None else only
    names = [name for name in known if quality_check(name).always]
    items, left_out = mended(replace(material, items=chosen.items), names)
    dropped = dict(chosen.dropped)
    for name, number in left_out.items():
        if number:
            dropped[_WHY[name]] = dropped.get(_WHY[name], 0) + number
    return Selection(items=items, dropped=dropped)


def choose(
    material: Material,
    select: Callable[[Sequence[EvalItem], EvalsConfig], Selection],
    checks: Sequence[str] | None = None,
) -> Selection:
    """The best distinct candidates that copy no example, in a set that is balanced whatever `select` does.

    `checks` names the checks that the items are held to, None for all.
    """
    leaking = set(leaks_of(material))
    chosen = select([item for item in material.items if item.id not in leaking], material.cfg)
    dropped = {**chosen.dropped, **({"copies an example": len(leaking)} if leaking else {})}
    return enforced(material, Selection(items=chosen.items, dropped=dropped), checks)
