"""What the report says of a run's rows: principles at work, the label card, whole chains."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from constitute.editing.words import MOST_ALIKE
from constitute.errors import DataError
from constitute.report.charts import bin_counts
from constitute.stages.card import LabelCard, equal_pairs, label_card
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
_R = TypeVar("_R", bound=BaseModel)


@dataclass
class PrincipleWork:
    """A principle and what it did: rounds it was drawn for, words it changed, votes it cast.

    `changed` holds the share of words that each revision under it changed, `margins` |2 P(A) - 1| of each
    vote, `revisions` P(revision) of each vote on a response and its revision; `flips` counts the votes whose
    two orders prefer different answers.
    """

    id: str
    text: str = ""
    drawn: int = 0
    changed: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    flips: int = 0
    ordered: int = 0
    revisions: list[float] = field(default_factory=list)

    @property
    def figures(self) -> tuple[Estimate, Estimate, Estimate, Estimate]:
        """Mean share of words changed, mean margin, share of flips, mean P(revision)."""
        return (
            _mean(self.changed),
            _mean(self.margins),
            share_of(self.flips, self.ordered),
            _mean(self.revisions),
        )


@dataclass(frozen=True)
class Labels:
    """The label card, its verdict and warnings, soft labels counted by bins, an interval on each figure.

    No `histogram` where every pair abstained or failed.
    """

    card: LabelCard
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


def principles_of(store: Store, constitution: Constitution | None) -> tuple[list[PrincipleWork], str]:
    """Principles, most drawn first, and a sentence on how the means were taken."""
    works: dict[str, PrincipleWork] = {}
    for principle in constitution.principles if constitution else ():
        works[principle.id] = PrincipleWork(principle.id, principle.text)
    for row in _rows(Response, store, "revise"):
        before = row.response
        for step in row.steps:
            work = works.setdefault(step.principle_id, PrincipleWork(step.principle_id))
            work.drawn += 1
            if len(work.changed) < MAX_COMPARED:
                work.changed.append(share_changed(before, step.revision))
            before = step.revision
    for pair in _rows(LabelledPair, store, "label"):
        _count_votes(pair, works)
    ranked = sorted(works.values(), key=lambda work: (-work.drawn, -len(work.margins), work.id))
    capped = any(work.drawn > MAX_COMPARED for work in ranked)
    return ranked, f"Words changed: the first {MAX_COMPARED} revisions of each principle." if capped else ""


def _count_votes(pair: LabelledPair, works: dict[str, PrincipleWork]) -> None:
    for vote in pair.label.votes:
        work = works.setdefault(vote.principle_id, PrincipleWork(vote.principle_id))
        work.margins.append(abs(2 * vote.p_a - 1))
        if vote.flips is not None:
            work.ordered += 1
            work.flips += vote.flips
        if pair.comparison.a_source == "response" and pair.comparison.b_source.startswith("revision"):
            work.revisions.append(1 - vote.p_a)


def share_changed(before: str, after: str) -> float:
    """Share of words that are not in both texts at matching places, in [0, 1]: 1 - 2M/T.

    Of texts that repeat a few words without end, words match whatever their places: more would take minutes.
    """
    first, second = before.split(), after.split()
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    counts = Counter(second)
    loops = sum(counts[word] for word in first) > MOST_ALIKE
    return 1.0 - (matcher.quick_ratio() if loops else matcher.ratio())


def labels_of(store: Store) -> Labels | None:
    """The label card, None where no pair was given to be labelled."""
    counts = store.counts("label")
    if not any(counts.values()):
        return None
    values: dict[str, list[float]] = defaultdict(list)

    def seen() -> Iterator[LabelledPair]:
        for pair in _rows(LabelledPair, store, "label"):
            values["soft"].append(pair.label.p_a)
            for vote in pair.label.votes:
                for name, value in (("first", vote.p_first), ("mass", vote.mass)):
                    if value is not None:
                        values[name].append(value)
            yield pair

    card = label_card(seen(), counts["abstain"], counts["failed"], equal=equal_pairs(store))
    soft = values["soft"]
    return Labels(
        card=card,
        verdict=verdict(card),
        warnings=label_warnings(card),
        histogram=bin_counts(soft) if soft else None,
        flips=share_of(card.flips, card.ordered),
        first_shown=_mean(values["first"]),
        mass=_mean(values["mass"]),
        undecided=share_of(sum(abs(p - 0.5) < 0.1 for p in soft), len(soft)),
    )


def chains_of(store: Store, rows: int) -> tuple[list[Chain], int]:
    """Up to `rows` chains evenly spaced over the run, and of how many."""
    stage = next((name for name in ("revise", "generate") if store.counts(name)["ok"]), "label")
    total = store.counts(stage)["ok"]
    wanted = set(spaced(total, rows))
    picked = (outcome for i, outcome in enumerate(store.outcomes(stage, "ok")) if i in wanted)
    if stage == "label":
        return [Chain(None, (_row(LabelledPair, stage, outcome),)) for outcome in picked], total
    return [_chain(store, _row(Response, stage, outcome)) for outcome in picked], total


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
    pairs = [_row(LabelledPair, "label", outcome) for outcome in found if outcome.status == "ok"]
    return Chain(row, tuple(pairs), tuple(outcome for outcome in found if outcome.status != "ok"))


def _rows(kind: type[_R], store: Store, stage: str) -> Iterator[_R]:
    return (_row(kind, stage, outcome) for outcome in store.outcomes(stage, "ok"))


def _row(kind: type[_R], stage: str, outcome: Outcome) -> _R:
    try:
        return kind.model_validate(outcome.data)
    except ValidationError:
        raise DataError(
            f"the {stage} row {outcome.row_id!r} in the run's store is damaged; restore the run from a copy"
        ) from None


def _mean(values: Sequence[float]) -> Estimate:
    return mean_of(values, "report", RESAMPLES)
