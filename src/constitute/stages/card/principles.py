"""How far the principles that vote on one pair agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from constitute.moments import Moments
from constitute.stages.card.records import Between, PrincipleAgreement
from constitute.stats import Estimate, kappa_of, share_of
from constitute.types import PrincipleVote

Two = tuple[str, str]


@dataclass
class Principles:
    """Votes on each pair, two by two; a vote of 0.5 is on no side."""

    voting: set[str] = field(default_factory=set)
    share: Moments = field(default_factory=Moments)
    both: Counter[Two] = field(default_factory=Counter)
    agree: Counter[Two] = field(default_factory=Counter)

    def add(self, votes: Sequence[PrincipleVote]) -> None:
        """Count the votes on a pair."""
        self.voting.update(vote.principle_id for vote in votes)
        sides = sorted((vote.principle_id, vote.p_a > 0.5) for vote in votes if vote.p_a != 0.5)
        if len(sides) < 2:
            return
        same = 0
        for (first, a), (second, b) in combinations(sides, 2):
            two = (first, second)
            self.both[two] += 1
            if a == b:
                same += 1
                self.agree[two] += 1
        self.share.add(same / (len(sides) * (len(sides) - 1) / 2))

    def agreement(self) -> PrincipleAgreement:
        """The agreement of all, and the two that agree least."""
        share = self.share.estimate(high=1.0)
        return PrincipleAgreement(
            voting=len(self.voting), share=share, kappa=_beyond_chance(share), least=self._least()
        )

    def _least(self) -> Between | None:
        found = [(share_of(self.agree[two], n), two) for two, n in self.both.items()]
        if not found:
            return None
        share, (first, second) = min(found, key=lambda each: (each[0].high or 0.0, each[1]))
        kappa = kappa_of(self.agree[first, second], share.n, 0.5)
        return Between(first=first, second=second, share=share, kappa=kappa)


def _beyond_chance(share: Estimate) -> Estimate:
    """Kappa of a share, where chance alone would give one half."""
    if share.value is None or share.low is None or share.high is None:
        return share
    value, low, high = (2 * x - 1 for x in (share.value, share.low, share.high))
    return Estimate(value=value, low=low, high=high, n=share.n)
