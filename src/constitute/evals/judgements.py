"""What judges said of the items of an eval set, and what it came to."""

from __future__ import annotations

from typing import Any

from constitute.evals.gate import Verdict
from constitute.stats import Estimate
from constitute.types import Record


class Judged(Record):
    """A judge on one item: P(the written answer shows the behaviour) and P(it is about the behaviour)."""

    id: str
    label: Verdict
    relevance: Verdict

    @property
    def clear(self) -> bool:
        """Whether both questions got the same answer in both orders."""
        return self.label.confidence is not None and self.relevance.confidence is not None


class Judge(Record):
    """Who judged and how. `same` says whether it is the writer's model with the writer's prompt; None where
    nobody knows the writer, as of a file. `same_model` says so of the model alone."""

    name: str
    model: dict[str, Any]
    prompt: str
    templates: dict[str, str]
    same: bool | None
    same_model: bool | None


class Band(Record):
    """Items whose written confidence lies from `low` to `high`: how many labels the judge confirms."""

    low: float
    high: float
    agreement: Estimate


class JudgeFigures(Record):
    """One judge against what is written. All figures are over items on which the judge was clear.

    `agreement` is the share of labels confirmed, `kappa` Cohen's, `relevant` the share about the behaviour,
    `spearman` the rank correlation of the judge's confidence with the written one. `people` is kappa against
    the majority of annotators, where there are any.
    """

    judge: Judge
    counts: dict[str, int]
    reasons: dict[str, int]
    orders_disagree: int
    agreement: Estimate
    kappa: Estimate
    relevant: Estimate
    spearman: Estimate
    bands: tuple[Band, ...] = ()
    people: Estimate | None = None


class Judgement(Record):
    """What one judge said of a whole set, item by item; `items_hash` is that of the set before the gate."""

    set: str
    items_hash: str
    judge: Judge
    counts: dict[str, int]
    reasons: dict[str, int]
    judged: tuple[Judged, ...]


class GateRecord(Record):
    """How a set came through: `kept` and `dropped` add up to `candidates`.

    `alpha` is Krippendorff's over the judges and the written label; `alpha_judges` over the judges alone,
    where there are several.
    """

    items_hash: str
    candidates: int
    kept: int
    dropped: dict[str, int]
    kept_unclear: int = 0
    judges: tuple[JudgeFigures, ...]
    alpha: Estimate
    alpha_judges: Estimate | None = None
