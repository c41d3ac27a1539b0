"""What the report says of a run's rows: principles at work, the label card, whole chains."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from constitute.editing.words import word_diff
from constitute.report.charts import histogram
from constitute.report.text import clip, share_changed
from constitute.report.view import (
    ChainView,
    Fact,
    Figure,
    LabelView,
    PairView,
    PrincipleView,
    StepView,
    VoteView,
)
from constitute.stats import bootstrap_mean, mean, wilson
from constitute.store import Store
from constitute.types import Constitution, LabelledPair, Message, Outcome, Response

# Comparing texts word by word is the slow part; this many revisions a principle give a mean.
MAX_COMPARED = 200
RESAMPLES = 400


@dataclass
class _Tally:
    """What one principle did."""

    drawn: int = 0
    changed: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    flips: int = 0
    revisions: list[float] = field(default_factory=list)


def principles_of(store: Store, constitution: Constitution | None) -> tuple[tuple[PrincipleView, ...], str]:
    """Principles, most drawn first, and a sentence on how the means were taken."""
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    texts = {p.id: p.text for p in constitution.principles} if constitution else {}
    for identity in texts:
        tallies[identity] = _Tally()
    for row in _responses(store, "revise"):
        before = row.response
        for step in row.steps:
            tally = tallies[step.principle_id]
            tally.drawn += 1
            if len(tally.changed) < MAX_COMPARED:
                tally.changed.append(share_changed(before, step.revision))
            before = step.revision
    for pair in _pairs(store):
        _count_votes(pair, tallies)
    views = [
        PrincipleView(
            id=identity,
            text=clip(texts.get(identity, ""), 600),
            drawn=tally.drawn,
            changed=_mean(tally.changed),
            votes=len(tally.margins),
            margin=_mean(tally.margins),
            flips=_share(tally.flips, len(tally.margins)),
            prefers_revision=_mean(tally.revisions),
        )
        for identity, tally in tallies.items()
    ]
    views.sort(key=lambda view: (-view.drawn, -view.votes, view.id))
    capped = any(view.drawn > MAX_COMPARED for view in views)
    note = f"Words changed: the first {MAX_COMPARED} revisions of each principle." if capped else ""
    return tuple(views), note


def _count_votes(pair: LabelledPair, tallies: dict[str, _Tally]) -> None:
    for vote in pair.label.votes:
        tally = tallies[vote.principle_id]
        tally.margins.append(abs(2 * vote.p_a - 1))
        tally.flips += (vote.p_ab > 0.5) != (vote.p_ba > 0.5)
        if pair.comparison.b_source.startswith("revision"):
            tally.revisions.append(1 - vote.p_a)


def labels_of(store: Store) -> LabelView | None:
    """The label card, None where no pair was labelled."""
    counts = store.counts("label")
    soft: list[float] = []
    first: list[float] = []
    masses: list[float] = []
    flips = votes = 0
    for pair in _pairs(store):
        soft.append(pair.label.p_a)
        flips += pair.label.flips
        votes += len(pair.label.votes)
        for vote in pair.label.votes:
            first.append((vote.p_ab + 1 - vote.p_ba) / 2)
            masses.append((vote.mass_ab + vote.mass_ba) / 2)
    if not soft:
        return None
    undecided = sum(abs(p - 0.5) < 0.1 for p in soft)
    return LabelView(
        pairs=len(soft),
        abstained=counts["abstain"],
        failed=counts["failed"],
        histogram=histogram(soft),
        flips=_share(flips, votes),
        first_shown=_mean(first),
        mass=_mean(masses),
        undecided=_share(undecided, len(soft)),
    )


def chains_of(store: Store, rows: int) -> tuple[tuple[ChainView, ...], int]:
    """Up to `rows` chains evenly spaced over the run, and of how many."""
    stage = next((name for name in ("revise", "generate") if store.counts(name)["ok"]), "label")
    total = store.counts(stage)["ok"]
    wanted = set(spaced(total, rows))
    picked = (outcome for i, outcome in enumerate(store.outcomes(stage, "ok")) if i in wanted)
    if stage == "label":
        labelled = [LabelledPair.model_validate(outcome.data) for outcome in picked]
        return tuple(_pair_alone(pair) for pair in labelled), total
    chosen = [Response.model_validate(outcome.data) for outcome in picked]
    return tuple(_chain(row, _outcomes_of(store, row)) for row in chosen), total


def spaced(total: int, wanted: int) -> list[int]:
    """At most `wanted` places in range(total), evenly spaced, the first and last among them."""
    if total <= wanted:
        return list(range(total))
    if wanted == 1:
        return [0]
    return sorted({round(i * (total - 1) / (wanted - 1)) for i in range(wanted)})


def _chain(row: Response, labelled: Sequence[Outcome]) -> ChainView:
    steps = []
    before = row.response
    for step in row.steps:
        diff = word_diff(clip(before), clip(step.revision))
        steps.append(
            StepView(principle_id=clip(step.principle_id, 80), critique=clip(step.critique), diff=tuple(diff))
        )
        before = step.revision
    return ChainView(
        id=clip(row.id, 200),
        messages=_messages(row.prompt.messages),
        response=clip(row.response),
        steps=tuple(steps),
        pairs=tuple(_pair(LabelledPair.model_validate(o.data)) for o in labelled if o.status == "ok"),
        unlabelled=tuple(
            Fact(name=clip(o.row_id, 200), value=f"{o.status}: {clip(o.reason or '', 300)}")
            for o in labelled
            if o.status != "ok"
        ),
    )


def _pair_alone(pair: LabelledPair) -> ChainView:
    messages = _messages(pair.comparison.prompt.messages)
    return ChainView(id=clip(pair.id, 200), messages=messages, response="", steps=(), pairs=(_pair(pair),))


def _pair(pair: LabelledPair) -> PairView:
    shown = pair.comparison
    votes = [
        VoteView(
            principle_id=clip(vote.principle_id, 80),
            p_ab=vote.p_ab,
            p_ba=vote.p_ba,
            mass=min(vote.mass_ab, vote.mass_ba),
        )
        for vote in pair.label.votes
    ]
    return PairView(
        id=clip(pair.id, 200),
        a=clip(shown.a),
        b=clip(shown.b),
        a_source=clip(shown.a_source, 80),
        b_source=clip(shown.b_source, 80),
        p_a=pair.label.p_a,
        votes=tuple(votes),
    )


def _messages(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(Message(role=message.role, content=clip(message.content)) for message in messages)


def _outcomes_of(store: Store, row: Response) -> list[Outcome]:
    """How the pairs that a response is part of ended: with its revision, or with the sample beside it."""
    first = f"{row.prompt.id}/{row.sample - 1}-{row.sample}"
    names = (f"{row.id}-rev", f"{row.id}-{row.sample + 1}", first)
    found = (store.outcome("label", name) for name in names)
    return [outcome for outcome in found if outcome is not None]


def _responses(store: Store, stage: str) -> Iterator[Response]:
    return (Response.model_validate(outcome.data) for outcome in store.outcomes(stage, "ok"))


def _pairs(store: Store) -> Iterator[LabelledPair]:
    return (LabelledPair.model_validate(outcome.data) for outcome in store.outcomes("label", "ok"))


def _mean(values: Sequence[float]) -> Figure | None:
    if not values:
        return None
    low, high = bootstrap_mean(values, random.Random("report"), RESAMPLES)
    return Figure(value=mean(values), low=low, high=high, n=len(values))


def _share(count: int, n: int) -> Figure | None:
    if not n:
        return None
    low, high = wilson(count, n)
    return Figure(value=count / n, low=low, high=high, n=n)
