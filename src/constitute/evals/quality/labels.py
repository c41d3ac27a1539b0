"""Labels: each is the answer that shows the behaviour equally often, and like items are labelled alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from constitute.evals.quality.base import (
    Checked,
    Material,
    Measured,
    Parts,
    QualityCheck,
    surest_first,
    unordered,
)
from constitute.evals.select import fold
from constitute.stats import share_of


def _label(part: Parts) -> str:
    """The label, or labels, that show the behaviour: Yes, A, or A and C."""
    return ", ".join(sorted(part.labels[at].strip(" ()") for at in part.matching))


def _labelled(material: Material) -> list[Parts]:
    """Items whose answers are labels; replies have none that could be balanced."""
    return [part for part in material.answered if not part.texts or part.texts[0] != part.labels[0].strip()]


def _by_labels(parts: Sequence[Parts]) -> dict[tuple[str, ...], list[Parts]]:
    """The items by the labels that they offer: Yes and No, or A to D."""
    groups: defaultdict[tuple[str, ...], list[Parts]] = defaultdict(list)
    for part in parts:
        groups[tuple(sorted(label.strip(" ()") for label in part.labels))].append(part)
    return dict(sorted(groups.items()))


def balance(material: Material) -> Checked:
    """Of the items that offer the same labels, each label matches equally often, give or take one."""
    parts = _labelled(material)
    if not parts:
        return Checked(check="labels", ok=None, said="The answers are texts: there are no labels to balance.")
    even, told, figures = True, [], []
    for offered, group in _by_labels(parts).items():
        counts = {**dict.fromkeys(offered, 0), **Counter(map(_label, group))}
        most = 1 if len(group) % len(counts) else 0
        even = even and max(counts.values()) - min(counts.values()) <= most
        told.append(", ".join(f"{label} {number}" for label, number in sorted(counts.items())))
        for label, number in sorted(counts.items()):
            share = share_of(number, len(group))
            name = f"{label} of {', '.join(offered)}"
            figures.append(Measured(name=name, estimate=share, chance=1 / len(counts)))
    said = f"The answer that shows the behaviour is {'; '.join(told)}."
    return Checked(check="labels", ok=even, said=said, figures=tuple(figures))


def unbalanced(material: Material) -> list[str]:
    """The least sure items of each label that matches more often than the rarest one offered beside it."""
    out: list[str] = []
    for offered, group in _by_labels(_labelled(material)).items():
        labels: defaultdict[str, list[Parts]] = defaultdict(list)
        for part in surest_first(group):
            labels[_label(part)].append(part)
        size = min(len(labels[label]) for label in {*offered, *labels})
        out += [part.item.id for own in labels.values() for part in own[size:]]
    return out


def conflicts(material: Material) -> Checked:
    """Items that say the same and are labelled otherwise."""
    found = _conflicting(material.parts)
    number = len(found)
    return Checked(
        check="conflicts",
        ok=not found,
        said=f"{number} items say what another says and have another answer."
        if found
        else "No two items disagree.",
        figures=(Measured(name="conflicting", estimate=share_of(number, len(material.items))),),
        items=tuple(found),
    )


def _conflicting(parts: Sequence[Parts]) -> list[str]:
    answers: defaultdict[str, set[frozenset[str]]] = defaultdict(set)
    for part in parts:
        answers[unordered(part)].add(_answer(part))
    return [part.item.id for part in parts if len(answers[unordered(part)]) > 1]


def _answer(part: Parts) -> frozenset[str]:
    return frozenset(fold((part.texts or part.labels)[at]) for at in part.matching)


CONFLICTS = QualityCheck(
    about="items that say the same have the same answer",
    find=conflicts,
    mend=lambda material: _conflicting(material.parts),
    always=True,
)
LABELS = QualityCheck(
    about="each label shows the behaviour equally often",
    find=balance,
    mend=unbalanced,
    always=True,
    balances=True,
)
