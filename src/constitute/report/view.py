"""Everything on the page of a run, in its order; every text in it is still to be escaped and clipped."""

from __future__ import annotations

from dataclasses import dataclass

from constitute.editing.trial.figures import TrialResult
from constitute.evals.kinds import KindChange
from constitute.evals.run import SetResult
from constitute.pipeline import Counts
from constitute.report.policies import Policies, Shift
from constitute.report.rows import Chain, Labels, PrincipleWork
from constitute.report.training import Figure, Trained
from constitute.store.unfinished import Unfinished

# (status, an example of reasons that differ in numbers alone, rows)
Reason = tuple[str, str, int]


@dataclass(frozen=True)
class StageRows:
    """How the rows of a stage ended, under the title people know it by."""

    title: str
    counts: Counts
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Report:
    """The parts of the page; `evals` holds each result on a set, with its shift from the first policy."""

    title: str
    facts: list[tuple[str, str]]
    policies: Policies
    said: list[str]
    headline: list[tuple[str, Figure, bool]]
    stages: list[StageRows]
    unfinished: list[Unfinished]
    constitution: str
    principles: list[PrincipleWork]
    principles_note: str
    trial: TrialResult | None
    labels: Labels | None
    chains: list[Chain]
    chains_of: int
    training: list[Trained]
    evals: dict[str, list[tuple[SetResult, Shift | None]]]
    kinds: list[KindChange]
