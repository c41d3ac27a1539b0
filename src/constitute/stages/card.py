"""The label card: what a set of preference labels looks like before anybody trains on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from pydantic import ValidationError

from constitute.errors import DataError
from constitute.stats import Estimate, kappa_of, share_of, wilson
from constitute.types import LabelledPair, Record

if TYPE_CHECKING:
    from constitute.store import Store

# Why a pair abstains that no judge is asked about.
EQUAL_ANSWERS = "the two answers are equal"
# A label this near to 0.5, or to all the others, differs by no more than rounding does: healthy log-
# probabilities of one text differ by 0.01 to 0.02 nats between two bf16 runs, P of two labels by 0.007.
NOISE = 0.01
# Where the judge answers as it was asked, P(A) + P(B) is 0.9 and more; twice `label.min_mass`.
THIN_MASS = 0.2


class Agreement(Record):
    """Labels against the preference that a file's author gave, over the pairs on which neither is undecided.

    `kappa` is Cohen's. The names A and B are arbitrary, and a file may put the better answer first in every
    row; so each pair counts in both orders, and chance alone would agree on half of them.
    """

    accuracy: Estimate
    kappa: Estimate
    human_ties: int
    label_ties: int


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
    """Figures over labelled pairs; those over none are None.

    `ordered` votes were taken in both orders; `flips` of them prefer different answers in each, and
    `flip_low` and `flip_high` are the 95 % Wilson interval of their share. `p_first` is the mean probability
    of whatever is shown first (0.5 without order bias), `p_a` the mean P(A), `margin` the mean of
    |2 P(A) - 1|, `mass` the mean probability of the two labels together. `censored` votes have an option
    whose probability was bounded, not measured.

    By pair, as the votes on one pair are no independent cases: most votes of `flipped` of the `ordered_pairs`
    flip; `silent` pairs abstained although their answers differ; `thin` ones have a mean mass under
    THIN_MASS; `alike` have the median P(A), `p_median`, up to NOISE. `longer` and
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
    flip_rate: float | None
    flip_low: float
    flip_high: float
    p_first: float | None
    p_a: float | None
    margin: float | None
    mass: float | None
    least_mass: float | None
    ordered_pairs: int
    flipped: int
    silent: int
    thin: int
    alike: int
    p_median: float | None
    longer: Estimate
    longer_human: Estimate
    agreement: Agreement | None
    decided: tuple[Decided, ...] = ()
    first_asked: FirstAsked | None = None
    as_made: Estimate | None = None


def card_of(store: Store) -> LabelCard:
    """The card of a run's labels. Raises `DataError` for a row that is damaged."""
    counts = store.counts("label")
    return label_card(_labelled(store), counts["abstain"], counts["failed"], equal=equal_pairs(store))


def equal_pairs(store: Store) -> int:
    """Pairs of a run that abstained because their answers are equal."""
    return sum(count for _, reason, count in store.reasons("label") if reason == EQUAL_ANSWERS)


def label_card(labelled: Iterable[LabelledPair], abstained: int, failed: int, *, equal: int = 0) -> LabelCard:
    """The card of labelled pairs, read once; `equal` of the abstained ones are of equal answers."""
    votes = censored = flips = flipped = thin = 0
    p_a: list[float] = []
    p_first: list[float] = []
    mass: list[float] = []
    least = math.inf
    ordered_pairs = 0
    longer: list[tuple[bool, float]] = []
    longer_human: list[tuple[bool, float]] = []
    both: list[tuple[float, float]] = []
    decided: Counter[tuple[str, str]] = Counter()
    settled: list[bool] = []
    voters = votes_of = 0
    made: list[tuple[bool, float]] = []
    for row in labelled:
        decided[row.label.rule, row.label.level] += 1
        pair, human = row.comparison, row.comparison.human
        if len(pair.a) != len(pair.b):
            longer.append((len(pair.a) > len(pair.b), row.label.p_a))
        if row.label.voters:
            settled.append(len(row.label.votes) < row.label.voters)
            votes_of, voters = votes_of + len(row.label.votes), voters + row.label.voters
        if pair.contrast is not None:
            made.append((pair.contrast.follows, row.label.p_a))
        if human is not None:
            both.append((row.label.p_a, human))
            if len(pair.a) != len(pair.b):
                longer_human.append((len(pair.a) > len(pair.b), human))
        p_a.append(row.label.p_a)
        least = min(least, math.inf if row.label.mass is None else row.label.mass)
        flips += row.label.flips
        votes += len(row.label.votes)
        censored += sum(vote.censored for vote in row.label.votes)
        first = [vote.p_first for vote in row.label.votes if vote.p_first is not None]
        masses = [vote.mass for vote in row.label.votes if vote.mass is not None]
        ordered_pairs += bool(first)
        flipped += row.label.flipped
        thin += bool(masses) and math.fsum(masses) / len(masses) < THIN_MASS
        p_first += first
        mass += masses
    low, high = wilson(flips, len(p_first))
    middle = median(p_a) if p_a else None
    return LabelCard(
        pairs=len(p_a),
        abstained=abstained,
        failed=failed,
        votes=votes,
        ordered=len(p_first),
        censored=censored,
        flips=flips,
        flip_rate=_mean([flips], len(p_first)),
        flip_low=low,
        flip_high=high,
        p_first=_mean(p_first, len(p_first)),
        p_a=_mean(p_a, len(p_a)),
        margin=_mean([abs(2 * p - 1) for p in p_a], len(p_a)),
        mass=_mean(mass, len(mass)),
        least_mass=least if math.isfinite(least) else None,
        ordered_pairs=ordered_pairs,
        flipped=flipped,
        silent=abstained - equal,
        thin=thin,
        alike=0 if middle is None else sum(abs(p - middle) <= NOISE for p in p_a),
        p_median=middle,
        longer=same_side(longer),
        longer_human=same_side(longer_human),
        decided=tuple(
            Decided(rule=rule, level=level, share=share_of(count, len(p_a)))
            for (rule, level), count in sorted(decided.items(), key=lambda each: (-each[1], each[0]))
        ),
        agreement=agreement_of(both) if both else None,
        first_asked=FirstAsked(settled=share_of(sum(settled), len(settled)), votes=votes_of, voters=voters)
        if settled
        else None,
        as_made=same_side(made) if made else None,
    )


def agreement_of(both: Sequence[tuple[float, float]]) -> Agreement:
    """How far labels agree with people: (P(A) of the label, P(A) of the person) for each pair."""
    decided = [(label > 0.5, human > 0.5) for label, human in both if label != 0.5 and human != 0.5]
    agree = sum(label == human for label, human in decided)
    return Agreement(
        accuracy=share_of(agree, len(decided)),
        kappa=kappa_of(agree, len(decided), 0.5),
        human_ties=sum(human == 0.5 for _, human in both),
        label_ties=sum(label == 0.5 and human != 0.5 for label, human in both),
    )


def same_side(rows: Sequence[tuple[bool, float]]) -> Estimate:
    """How often P(A) is on the side that is named, such as the longer answer's: (whether A is it, P(A)).

    Pairs with P(A) = 0.5 are left out.
    """
    decided = [is_a == (p_a > 0.5) for is_a, p_a in rows if p_a != 0.5]
    return share_of(sum(decided), len(decided))


def _labelled(store: Store) -> Iterator[LabelledPair]:
    for row in store.outcomes("label", "ok"):
        try:
            yield LabelledPair.model_validate(row.data)
        except ValidationError as damage:
            field = ".".join(map(str, damage.errors()[0]["loc"]))
            raise DataError(
                f"{store.folder}: the stored row {row.row_id!r} is damaged at {field or 'its root'}; "
                "restore the run directory from a copy, or start the run anew"
            ) from None


def _mean(values: Iterable[float], n: int) -> float | None:
    return math.fsum(values) / n if n else None
