"""What the report shows, as records; every text in them is still to be escaped."""

from __future__ import annotations

from constitute.editing.words import Stretch
from constitute.report.charts import Curve, Histogram
from constitute.types import Message, Record


class Figure(Record):
    """A value with its interval, where there is one, and n. `percent` shows it as a percentage."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    percent: bool = True


class Fact(Record):
    """A name and what it is."""

    name: str
    value: str


class PolicyRow(Record):
    """One measured behaviour, with a figure a policy; None where a policy was not measured."""

    name: str
    figures: tuple[Figure | None, ...]


class PolicyTable(Record):
    """The policies' measured behaviour on held-out prompts."""

    policies: tuple[str, ...]
    rows: tuple[PolicyRow, ...]


class NamedFigure(Record):
    """A figure under its name."""

    name: str
    figure: Figure


class Reason(Record):
    """Why rows did not end well, with numbers in the reason left out."""

    status: str
    text: str
    count: int


class StageView(Record):
    """How a stage's rows ended; the three counts add up to `total`."""

    name: str
    ok: int
    abstain: int
    failed: int
    total: int
    reasons: tuple[Reason, ...]


class PrincipleView(Record):
    """A principle and what it did: rounds it was drawn for, words it changed, votes it cast.

    `changed` is the mean share of words a revision under it changed; `prefers_revision` its mean
    P(revision) over response-revision pairs; `margin` the mean |2 P(A) - 1| of its votes.
    """

    id: str
    text: str
    drawn: int
    changed: Figure | None
    votes: int
    margin: Figure | None
    flips: Figure | None
    prefers_revision: Figure | None


class LabelView(Record):
    """The label card: soft labels, order bias, label mass."""

    pairs: int
    abstained: int
    failed: int
    histogram: Histogram
    flips: Figure | None
    first_shown: Figure | None
    mass: Figure | None
    undecided: Figure | None


class VoteView(Record):
    """One principle's vote on a pair, by order."""

    principle_id: str
    p_ab: float
    p_ba: float
    mass: float


class PairView(Record):
    """A labelled pair."""

    id: str
    a: str
    b: str
    a_source: str
    b_source: str
    p_a: float
    votes: tuple[VoteView, ...]


class StepView(Record):
    """A round: the principle, the critique, and how the revision differs from what it revised."""

    principle_id: str
    critique: str
    diff: tuple[Stretch, ...]


class ChainView(Record):
    """One row from its prompt to its labels; `unlabelled` says why a pair of it has none."""

    id: str
    messages: tuple[Message, ...]
    response: str
    steps: tuple[StepView, ...]
    pairs: tuple[PairView, ...]
    unlabelled: tuple[Fact, ...] = ()


class TrainingView(Record):
    """The curves of one trainer; `state` says why there are none."""

    name: str
    curves: tuple[Curve, ...]
    state: str


class EvalRow(Record):
    """A policy's result on an eval set."""

    policy: str
    model: str
    share: Figure
    p_matching: Figure
    mass: float | None
    unparsed: int


class EvalView(Record):
    """An eval set and the policies scored on it."""

    name: str
    rows: tuple[EvalRow, ...]


class Report(Record):
    """Everything on the page, in its order."""

    title: str
    facts: tuple[Fact, ...]
    policies: PolicyTable | None
    headline: tuple[NamedFigure, ...]
    stages: tuple[StageView, ...]
    constitution: str
    principles: tuple[PrincipleView, ...]
    principles_note: str
    labels: LabelView | None
    chains: tuple[ChainView, ...]
    chains_of: int
    training: tuple[TrainingView, ...]
    evals: tuple[EvalView, ...]
