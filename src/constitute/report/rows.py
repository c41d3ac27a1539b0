"""What the report says of a run's rows: principles at work, the label card, whole chains."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from constitute.data.reviews import reviewed_card
from constitute.editing.words import MOST_ALIKE
from constitute.moments import Moments
from constitute.report.charts import bin_counts
from constitute.stages.card.lines import CardLine, card_lines
from constitute.stages.card.records import LabelCard
from constitute.stages.verdict import LabelVerdict, label_warnings, verdict
from constitute.stats import Estimate, mean_of, share_of
from constitute.store import Store
from constitute.types import (
    Constitution,
    CritiqueRevision,
    LabelledPair,
    Message,
    Outcome,
    Response,
)

# Comparing texts word by word is the slow part; this many revisions a principle give a mean.
MAX_COMPARED = 200
RESAMPLES = 400
_SEED = "report"
_R = TypeVar("_R", bound=BaseModel)


@dataclass
class PrincipleWork:
    """A principle and what it did: rounds it was drawn for, words it changed, votes it cast.

    `changed` holds the share of words that revisions under it changed, `margins` are |2 P(A) - 1| of each
    vote, `revisions` P(revision) of each vote on a response and its revision; `flips` counts the votes whose
    two orders prefer different answers.
    """

    id: str
    text: str = ""
    drawn: int = 0
    changed: list[float] = field(default_factory=list)
    margins: Moments = field(default_factory=Moments)
    flips: int = 0
    ordered: int = 0
    revisions: Moments = field(default_factory=Moments)

    @property
    def figures(self) -> tuple[Estimate, Estimate, Estimate, Estimate]:
        """Mean share of words changed, mean margin, share of flips, mean P(revision)."""
        return (
            mean_of(self.changed, _SEED, RESAMPLES),
            self.margins.estimate(high=1.0),
            share_of(self.flips, self.ordered),
            self.revisions.estimate(high=1.0),
        )


@dataclass(frozen=True)
class Labels:
    """The label card, its verdict and warnings, soft labels counted by bins, an interval on each figure.

    `lines` are the card in words. No `histogram` where every pair abstained or failed.
    """

    card: LabelCard
    lines: list[CardLine]
    verdict: LabelVerdict | None
    warnings: list[str]
    histogram: tuple[int, ...] | None
    flips: Estimate
    first_shown: Estimate
    mass: Estimate
    undecided: Estimate


@dataclass(frozen=True)
class Chain:
    """One row from its prompt to its labels; a pair that was labelled without a response has no `row`."""

    row: Response | None
    pairs: tuple[LabelledPair, ...]
    unlabelled: tuple[Outcome, ...] = ()

    @property
    def id(self) -> str:
        """The response's id, or the pair's."""
        return self.pairs[0].id if self.row is None else self.row.id

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation that was answered."""
        return (self.pairs[0].comparison if self.row is None else self.row).prompt.messages

    @property
    def rounds(self) -> list[tuple[str, CritiqueRevision]]:
        """Each step with the text that it revised."""
        if self.row is None:
            return []
        before = [self.row.response, *(step.revision for step in self.row.steps)]
        return list(zip(before, self.row.steps, strict=False))


def principles_of(store: Store, constitution: Constitution | None) -> dict[str, PrincipleWork]:
    """Principles by id and what they did in critiques and revisions; `labels_of` adds their votes."""
    works: dict[str, PrincipleWork] = {}
    for principle in constitution.principles if constitution else ():
        works[principle.id] = PrincipleWork(principle.id, principle.text)
    for row in store.records("revise", Response):
        before = row.response
        for step in row.steps:
            if step.principle_id not in works:
                works[step.principle_id] = PrincipleWork(step.principle_id)
            work = works[step.principle_id]
            work.drawn += 1
            if len(work.changed) < MAX_COMPARED:
                work.changed.append(share_changed(before, step.revision))
            before = step.revision
    return works


def ranked(works: Mapping[str, PrincipleWork]) -> tuple[list[PrincipleWork], str]:
    """Principles, most drawn first, and a sentence on how the means and intervals were taken."""
    found = sorted(works.values(), key=lambda work: (-work.drawn, -work.margins.n, work.id))
    notes = []
    if any(work.drawn > MAX_COMPARED for work in found):
        notes.append(f"Words changed: the first {MAX_COMPARED} revisions of each principle.")
    return found, " ".join(notes)


def _count_votes(pair: LabelledPair, works: dict[str, PrincipleWork]) -> None:
    sources = pair.comparison.a_source, pair.comparison.b_source
    of_revision = sources[0] == "response" and sources[1].startswith("revision")
    for vote in pair.label.votes:
        if vote.principle_id not in works:
            works[vote.principle_id] = PrincipleWork(vote.principle_id)
        work, p_a, flips = works[vote.principle_id], vote.p_a, vote.flips
        work.margins.add(abs(2 * p_a - 1))
        if flips is not None:
            work.ordered += 1
            work.flips += flips
        if of_revision:
            work.revisions.add(1 - p_a)


def share_changed(before: str, after: str) -> float:
    """Share of words that are not in both texts at matching places, in [0, 1]: 1 - 2M/T.

    Of texts that repeat a few words without end, words match whatever their places: more would take minutes.
    """
    first, second = before.split(), after.split()
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    counts = Counter(second)
    loops = sum(counts[word] for word in first) > MOST_ALIKE
    return 1.0 - (matcher.quick_ratio() if loops else matcher.ratio())


def labels_of(store: Store, works: dict[str, PrincipleWork]) -> Labels | None:
    """The label card, None where no pair was given to be labelled; the votes are counted in `works`."""
    if not any(store.counts("label").values()):
        return None
    soft, first, mass = array("d"), Moments(), Moments()
    for pair in store.records("label", LabelledPair):
        soft.append(pair.label.p_a)
        _count_votes(pair, works)
        for vote in pair.label.votes:
            for values, value in ((first, vote.p_first), (mass, vote.mass)):
                if value is not None:
                    values.add(value)
    card = reviewed_card(store)
    return Labels(
        card=card,
        lines=card_lines(card),
        verdict=verdict(card),
        warnings=label_warnings(card),
        histogram=bin_counts(soft) if soft else None,
        flips=share_of(card.flips, card.ordered),
        first_shown=first.estimate(high=1.0),
        mass=mass.estimate(high=1.0),
        undecided=share_of(sum(abs(p - 0.5) < 0.1 for p in soft), len(soft)),
    )


def chains_of(store: Store, rows: int) -> tuple[list[Chain], int]:
    """Up to `rows` chains evenly spaced over the run, and of how many."""
    stage = next((name for name in ("revise", "generate") if store.counts(name)["ok"]), "label")
    total = store.counts(stage)["ok"]
    picked = store.spaced(stage, spaced(total, rows))
    if stage == "label":
        return [Chain(None, (_row(LabelledPair, store, outcome),)) for outcome in picked], total
    return [_chain(store, _row(Response, store, outcome)) for outcome in picked], total


def spaced(total: int, wanted: int) -> list[int]:
    """At most `wanted` places in range(total), evenly spaced, the first and last among them."""
    if total <= wanted:
        return list(range(total))
    if wanted == 1:
        return [0]
    return sorted({round(i * (total - 1) / (wanted - 1)) for i in range(wanted)})


def _chain(store: Store, row: Response) -> Chain:
    """The response with the pairs that it is part of."""
    first = f"{row.prompt.id}/{row.sample - 1}-{row.sample}"
    whole = (f"{row.id}-against", f"{row.prompt.id}/best-worst")
    names = (f"{row.id}-rev", f"{row.id}-{row.sample + 1}", first, *whole)
    found = [outcome for name in names if (outcome := store.outcome("label", name)) is not None]
    pairs = [_row(LabelledPair, store, outcome) for outcome in found if outcome.status == "ok"]
    return Chain(row, tuple(pairs), tuple(outcome for outcome in found if outcome.status != "ok"))


def _row(kind: type[_R], store: Store, outcome: Outcome) -> _R:
    try:
        return kind.model_validate(outcome.data)
    except ValidationError as problem:
        raise store.damaged_row(outcome.row_id, problem) from None
