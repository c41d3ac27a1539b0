"""What reviews come to: how far annotators agree with one another, with themselves and with the judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import median

from constitute.data.reviews import SKIP, TIE, Item, Review
from constitute.stages.card.people import agreement_of
from constitute.stages.card.records import Agreement
from constitute.stats import Estimate, alpha_of, kappa_of, share_of
from constitute.types import Record

_WORTH = {"a": 1.0, "b": 0.0, TIE: 0.5}
Votes = Mapping[str, Mapping[str, str]]


class AnnotatorFigures(Record):
    """One annotator: choices by kind, and what they lean to.

    `first` is how often the answer shown first was chosen, `longer` the longer one, both without ties;
    `again` how often a second showing in the other order got the same choice. `seconds` is the median.
    """

    annotator: str
    answered: int
    ties: int
    skipped: int
    first: Estimate
    longer: Estimate
    again: Estimate
    seconds: float | None


class Between(Record):
    """Two annotators over the items that both answered, ties as a choice of their own; kappa is Cohen's."""

    first: str
    second: str
    same: Estimate
    kappa: Estimate


class AgainstJudge(Record):
    """The judge's labels against one annotator, or against `people`, the majority of all."""

    annotator: str
    agreement: Agreement


class ReviewFigures(Record):
    """All of it; `alpha` is Krippendorff's, nominal, over items with two choices or more."""

    items: int
    reviewed: int
    annotators: tuple[AnnotatorFigures, ...]
    between: tuple[Between, ...]
    alpha: Estimate
    judge: tuple[AgainstJudge, ...]


def figures_of(
    items: Sequence[Item], reviews: Iterable[Review], labels: Mapping[str, float] | None = None
) -> ReviewFigures:
    """Figures over all reviews; `labels` are the judge's P(A) by item, where there are any."""
    reviews = list(reviews)
    by_annotator: defaultdict[str, list[Review]] = defaultdict(list)
    for one in reviews:
        by_annotator[one.annotator].append(one)
    votes = {
        name: {one.item: one.choice for one in found if not one.again and one.choice != SKIP}
        for name, found in by_annotator.items()
    }
    by_item: defaultdict[str, list[str]] = defaultdict(list)
    for found in votes.values():
        for item, choice in found.items():
            by_item[item].append(choice)
    texts = {item.id: item for item in items}
    return ReviewFigures(
        items=len(items),
        reviewed=len(by_item),
        annotators=tuple(_annotator(name, found, texts) for name, found in by_annotator.items()),
        between=tuple(_between(a, b, votes) for a, b in combinations(votes, 2)),
        alpha=alpha_of([found for _, found in sorted(by_item.items())]),
        judge=tuple(_against(votes, by_item, labels or {})),
    )


def _annotator(name: str, reviews: Sequence[Review], items: Mapping[str, Item]) -> AnnotatorFigures:
    once = {one.item: one for one in reviews if not one.again}
    chosen = [one for one in once.values() if one.choice not in (TIE, SKIP)]
    ordered = [one for one in chosen if one.order]
    longer = [
        one.choice == ("a" if len(first) > len(second) else "b")
        for one in chosen
        if (item := items.get(one.item)) is not None and len(item.options) == 2
        for first, second in [item.options]
        if len(first) != len(second)
    ]
    twice = [(once[one.item].choice, one.choice) for one in reviews if one.again and one.item in once]
    twice = [pair for pair in twice if SKIP not in pair]
    seconds = [one.seconds for one in once.values() if one.seconds is not None]
    return AnnotatorFigures(
        annotator=name,
        answered=sum(one.choice != SKIP for one in once.values()),
        ties=sum(one.choice == TIE for one in once.values()),
        skipped=sum(one.choice == SKIP for one in once.values()),
        first=share_of(sum(one.order[0] == one.choice for one in ordered), len(ordered)),
        longer=share_of(sum(longer), len(longer)),
        again=share_of(sum(a == b for a, b in twice), len(twice)),
        seconds=median(seconds) if seconds else None,
    )


def _between(first: str, second: str, votes: Votes) -> Between:
    both = [(choice, votes[second][item]) for item, choice in votes[first].items() if item in votes[second]]
    same = sum(a == b for a, b in both)
    chance = _chance(both) if both else 1.0
    # Two who always choose one and the same agree by chance alone: kappa says nothing of them.
    nothing = Estimate(value=None, low=None, high=None, n=len(both))
    kappa = nothing if chance == 1.0 else kappa_of(same, len(both), chance)
    return Between(first=first, second=second, same=share_of(same, len(both)), kappa=kappa)


def _chance(both: Sequence[tuple[str, str]]) -> float:
    """Agreement by chance, where each keeps to his own shares of the choices (J. Cohen, 1960)."""
    n = len(both)
    choices = {choice for pair in both for choice in pair}
    return sum(sum(a == c for a, _ in both) * sum(b == c for _, b in both) for c in choices) / (n * n)


def _against(
    votes: Votes, by_item: Mapping[str, Sequence[str]], labels: Mapping[str, float]
) -> Iterable[AgainstJudge]:
    """Each annotator, then the majority, against the labels of the items that they chose on."""
    if not labels:
        return
    sides = {
        name: {item: _WORTH[choice] for item, choice in found.items() if choice in _WORTH}
        for name, found in votes.items()
    }
    worth = {
        item: [_WORTH[choice] for choice in found if choice in _WORTH] for item, found in by_item.items()
    }
    people = {item: sum(found) / len(found) for item, found in worth.items() if found}
    for name, found in (*sides.items(), ("people", people)):
        both = [(labels[item], human) for item, human in found.items() if item in labels]
        if both:
            yield AgainstJudge(annotator=name, agreement=agreement_of(both))
