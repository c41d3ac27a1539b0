"""What the label card holds: each figure with its number of cases and its 95 % interval."""

from __future__ import annotations

from constitute.stats import Estimate
from constitute.types import Record


class Agreement(Record):
    """Labels against the preference that a file's author gave, over the pairs on which neither is undecided.

    `kappa` is Cohen's. The names A and B are arbitrary, and a file may put the better answer first in every
    row; so each pair counts in both orders, and chance alone would agree on half of them.
    """

    accuracy: Estimate
    kappa: Estimate
    human_ties: int
    label_ties: int


class ReliabilityBin(Record):
    """Pairs of like confidence: the mean P of the preferred side, and how often people prefer that side."""

    confidence: float
    right: Estimate


class Calibration(Record):
    """Soft labels against people: `brier` is the mean of (P(A) - theirs)^2, 0.25 for P(A) = 0.5 throughout.

    `ece` is the expected calibration error of the preferred side and `bins` what it is made of; of more than
    `people.KEPT` pairs they are taken from so many, drawn at random.
    """

    brier: Estimate
    ece: Estimate
    bins: tuple[ReliabilityBin, ...]


class Between(Record):
    """How far two principles agree, over the pairs that both decided."""

    first: str
    second: str
    share: Estimate
    kappa: Estimate


class PrincipleAgreement(Record):
    """How far the votes on one pair agree, one case a pair: its share of votes two by two on one side.

    `voting` principles voted. `kappa` is Cohen's, with chance at one half. `least` are the two that agree
    least: of all twos, the one with the least upper end. No case where each pair has one vote.
    """

    voting: int
    share: Estimate
    kappa: Estimate
    least: Between | None


class Lengths(Record):
    """Whether length decides, by labels and by people, and how long the answers are.

    `slope` is by how much P(the longer answer) rises for each doubling of the ratio of lengths in characters.
    """

    slope: Estimate
    slope_human: Estimate
    chosen_words: Estimate
    rejected_words: Estimate


class Boilerplate(Record):
    """What the preferred answers have in common: the commonest opening words, and phrases of refusals.

    Of more than `texts.OPENINGS` different openings the count is a lower bound, short by less than one in
    that number of the answers.
    """

    opening: str
    opens_so: Estimate
    refusals: Estimate
    refusals_rejected: Estimate


class Writers(Record):
    """Who wrote the answers, and whether the judge is one of them or of their family.

    `by` counts the answers whose writer is known, by writer. `kin` of the `answers` are by the judge or a
    model of its family. `own` is how often the judge prefers its kin's answer where the other is not its
    kin's, and `own_human` how often people do, on the pairs that they judged.
    """

    judge: str
    by: dict[str, int]
    answers: int
    kin: int
    own: Estimate
    own_human: Estimate


class Decided(Record):
    """The labels that a rule and, under `priority`, a level made; `level` is "" where no level decided."""

    rule: str
    level: str
    share: Estimate

    @property
    def by(self) -> str:
        """Such as `the rule priority, level root`."""
        if self.level:
            return f"the rule {self.rule}, level {self.level}"
        return f"the rule {self.rule}" + (", no level (the mean)" if self.rule == "priority" else "")


class FirstAsked(Record):
    """What `label.adaptive` did: labels that the first principles settled, and votes asked of all."""

    settled: Estimate
    votes: int
    voters: int


class LabelCard(Record):
    """Figures over labelled pairs; those over none have no value.

    `ordered` votes were taken in both orders; `flips` of them prefer different answers in each. `p_first` is
    the mean probability of whatever is shown first (0.5 without order bias), `p_a` the mean P(A), `margin`
    the mean of |2 P(A) - 1|, `entropy` the mean entropy of P(A) in bits, `mass` the mean probability of the
    two labels together. `censored` votes have an option whose probability was bounded, not measured.

    Means and `flipped_rate` are by pair, as the votes on one pair are no independent cases: most votes of
    `flipped` of the `ordered_pairs` flip; `silent` pairs abstained although their answers differ; `thin` ones
    have a mean mass under THIN_MASS; `alike` have the median P(A), `p_median`, up to NOISE. `longer` and
    `longer_human`: how often the longer answer is preferred where lengths differ, by labels and by people.
    `decided` says by what the labels were made, the most first; its shares add up to 1. `first_asked` is None
    without `label.adaptive`. `as_made`: how often the label is on the side of how a pair of the stage
    `contrast` was made, None without such pairs.
    """

    pairs: int
    abstained: int
    failed: int
    votes: int
    ordered: int
    censored: int
    flips: int
    flip_rate: Estimate
    ordered_pairs: int
    flipped: int
    flipped_rate: Estimate
    p_first: Estimate
    p_a: Estimate
    margin: Estimate
    entropy: Estimate
    mass: Estimate
    least_mass: float | None
    silent: int
    thin: int
    alike: int
    p_median: float | None
    longer: Estimate
    longer_human: Estimate
    lengths: Lengths
    agreement: Agreement | None
    calibration: Calibration | None
    principles: PrincipleAgreement
    boilerplate: Boilerplate
    writers: Writers
    decided: tuple[Decided, ...] = ()
    first_asked: FirstAsked | None = None
    as_made: Estimate | None = None
