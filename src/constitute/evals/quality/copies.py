"""Copies: items that repeat one another, other sets, the examples their writer saw, or training data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from constitute.config.data import OverlapConfig
from constitute.data.overlap import EvalIndex, Touch
from constitute.data.rows import read_rows
from constitute.evals.items import items_hash
from constitute.evals.quality.base import (
    Checked,
    Material,
    Measured,
    Parts,
    QualityCheck,
    parts_of,
    surest_first,
    unordered,
)
from constitute.evals.select import fold, near_texts
from constitute.files import Row
from constitute.stats import share_of

_Key = Callable[[Parts], str]


_SAME: dict[str, _Key] = {
    "exact": lambda part: part.said.strip(),
    "folded": lambda part: fold(part.said),
    "in any order of options": unordered,
}


def duplicates(material: Material) -> Checked:
    """Items that repeat an earlier one: to the letter, without case and punctuation, and nearly."""
    n, near = len(material.items), _near(material.parts, material.cfg.near_duplicate)
    counts = {name: n - len({key(part) for part in material.parts}) for name, key in _SAME.items()}
    figures = [Measured(name=name, estimate=share_of(number, n)) for name, number in counts.items()]
    figures.append(Measured(name="near", estimate=share_of(len(near), n)))
    said = f"{len(near)} of {n} items nearly repeat another, {counts['exact']} of them to the letter."
    return Checked(
        check="duplicates",
        ok=not near,
        said=said if near else "No item repeats another.",
        figures=tuple(figures),
        items=tuple(near),
        copies=tuple(near.values()),
    )


def _near(parts: Sequence[Parts], threshold: float) -> dict[str, str]:
    """Id of each repeat, in any order of options too, with that of the item it repeats."""
    seen, first, found = near_texts(threshold), dict[str, str](), dict[str, str]()
    for part in parts:
        like = first.setdefault(unordered(part), part.item.id)
        if like != part.item.id:
            found[part.item.id] = like
        elif (near := seen.like(part.item.id, part.said)) is not None:
            found[part.item.id] = near
    return found


def across(material: Material) -> Checked:
    """Items that stand in another set too, and whole sets that are another under a second name."""
    found = _in_others(material)
    own, n = items_hash(material.items), len(material.items)
    twins = [name for name, items in material.others.items() if items_hash(items) == own]
    said = f"{len(found)} of {n} items nearly repeat one of another set."
    if twins:
        said = f"Its items are those of {', '.join(twins)}, to the byte."
    return Checked(
        check="across",
        ok=None if not material.others else not found,
        said=said if material.others else "There is no other set to compare it with.",
        figures=(Measured(name="in another set", estimate=share_of(len(found), n)),)
        if material.others
        else (),
        items=tuple(found),
        copies=tuple(found.values()),
    )


def _in_others(material: Material) -> dict[str, str]:
    seen = near_texts(material.cfg.near_duplicate)
    for name, items in material.others.items():
        for item in items:
            seen.like(f"{name}:{item.id}", parts_of(item).said)
    found: dict[str, str] = {}
    for part in material.parts:
        like = seen.like(f"\n{part.item.id}", part.said)
        # A text like an earlier item of the same set is of interest to `duplicates` alone.
        if like is not None and not like.startswith("\n"):
            found[part.item.id] = like
    return found


def leaks(material: Material) -> Checked:
    """Items that copy the words of an example that their writer was shown."""
    if not material.examples:
        return Checked(check="leaks", ok=None, said="No examples are known that its writer was shown.")
    verbatim, found = _leaked(material)
    n = len(material.items)
    return Checked(
        check="leaks",
        ok=not found,
        said=f"{len(found)} of {n} items copy one of {len(material.examples)} examples, "
        f"{len(verbatim)} of them all that it asks."
        if found
        else f"No item copies one of {len(material.examples)} examples.",
        figures=(
            Measured(name="asks what an example asks", estimate=share_of(len(verbatim), n)),
            Measured(name="shares words with an example", estimate=share_of(len(found), n)),
        ),
        items=tuple(found),
        copies=tuple(found.values()),
    )


def leaks_of(material: Material) -> list[str]:
    """Ids of the items that copy an example."""
    return list(_leaked(material)[1]) if material.examples else []


def _leaked(material: Material) -> tuple[list[str], dict[str, str]]:
    """Ids of items whose stem is an example's, and of all that share a run of words, with the example."""
    examples = material.examples
    stems = {fold(asked): name for name, asked in examples.items()}
    index = EvalIndex(
        lambda: ((name, {"question": asked}) for name, asked in examples.items()),
        OverlapConfig(common=len(examples)),
    )
    found: dict[str, str] = {}
    verbatim: list[str] = []
    for part in material.parts:
        same = stems.get(fold(part.stem))
        touch = index.find({"question": part.stem})
        if same is not None:
            verbatim.append(part.item.id)
        if same is not None or touch is not None:
            found[part.item.id] = same or (touch.item if touch else "")
    return verbatim, found


def training(material: Material) -> Checked:
    """Items that share a run of words, or a whole short text, with data that a model is trained on."""
    if not material.training:
        return Checked(check="training", ok=None, said="No training data is named to compare it with.")
    found = _trained_on(material)
    n = len(material.items)
    return Checked(
        check="training",
        ok=not found,
        said=f"{len(found)} of {n} items share text with {', '.join(material.training)}.",
        figures=(Measured(name="in training data", estimate=share_of(len(found), n)),),
        items=tuple(found),
        copies=tuple(touch.item for touch in found.values()),
    )


def _trained_on(material: Material) -> dict[str, Touch]:
    def rows() -> Iterator[tuple[str, object]]:
        for source in material.training:
            yield from ((row.where, row.value) for row in read_rows(source) if isinstance(row, Row))

    index = EvalIndex(rows, OverlapConfig())
    touched = ((part.item.id, index.find({"question": part.stem})) for part in material.parts)
    return {name: touch for name, touch in touched if touch is not None}


def repeats(material: Material) -> list[str]:
    """Ids to leave out so that of like items the surest stays."""
    return list(_near(surest_first(material.parts), material.cfg.near_duplicate))


DUPLICATES = QualityCheck(
    about="no item repeats another, nearly or to the letter", find=duplicates, mend=repeats, always=True
)
ACROSS = QualityCheck(
    about="no item stands in another set", find=across, mend=lambda material: list(_in_others(material))
)
LEAKS = QualityCheck(
    about="no item copies an example that its writer was shown",
    find=leaks,
    mend=leaks_of,
    always=True,
)
TRAINING = QualityCheck(
    about="no item shares text with training data",
    find=training,
    mend=lambda material: list(_trained_on(material)) if material.training else [],
)
