"""Labels against the preference of people: how often they agree, and whether P(A) means what it says."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from constitute.moments import Moments
from constitute.stages.card.records import Agreement, Calibration, ReliabilityBin
from constitute.stats import calibration_error, confidence_bins, kappa_of, share_of

# Pairs of which calibration is taken: they bound it to about 0.03, in less than a second.
KEPT = 1000


def agreement_of(both: Iterable[tuple[float, float]]) -> Agreement:
    """How far labels agree with people: (P(A) of the label, P(A) of the person) for each pair."""
    people = People()
    for p_a, human in both:
        people.add(p_a, human)
    return people.agreement()


@dataclass
class People:
    """Labels and people's preferences, counted one pair after the other."""

    agree: int = 0
    decided: int = 0
    human_ties: int = 0
    label_ties: int = 0
    brier: Moments = field(default_factory=Moments)
    kept: list[tuple[float, float]] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random("label card"))

    def add(self, p_a: float, human: float) -> None:
        """Count a pair: P(A) of its label and of a person."""
        if human == 0.5:
            self.human_ties += 1
        elif p_a == 0.5:
            self.label_ties += 1
        else:
            self.decided += 1
            self.agree += (p_a > 0.5) == (human > 0.5)
        self.brier.add((p_a - human) ** 2)
        self._keep((max(p_a, 1 - p_a), human if p_a >= 0.5 else 1 - human))

    def _keep(self, point: tuple[float, float]) -> None:
        """Every pair seen so far is kept with the same chance (algorithm R, J. S. Vitter, 1985)."""
        if len(self.kept) < KEPT:
            self.kept.append(point)
        elif (place := self.rng.randrange(self.brier.n)) < KEPT:
            self.kept[place] = point

    def agreement(self) -> Agreement:
        """How far both agree; of no cases where no pair has people's preference."""
        return Agreement(
            accuracy=share_of(self.agree, self.decided),
            kappa=kappa_of(self.agree, self.decided, 0.5),
            human_ties=self.human_ties,
            label_ties=self.label_ties,
        )

    def calibration(self) -> Calibration | None:
        """None where no pair has people's preference."""
        if not self.brier.n:
            return None
        bins = []
        for part in confidence_bins(sorted(self.kept)):
            right = share_of(sum(y for _, y in part), len(part))
            bins.append(ReliabilityBin(confidence=sum(p for p, _ in part) / len(part), right=right))
        return Calibration(
            brier=self.brier.estimate(high=1.0), ece=calibration_error(self.kept), bins=tuple(bins)
        )
