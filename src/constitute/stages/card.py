"""The label card: what a set of preference labels looks like before anybody trains on it."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from statistics import median
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from constitute import __version__
from constitute.stats import Estimate, ExactSum, kappa_of, share_of, wilson
from constitute.types import LabelledPair, PreferenceLabel, Record

if TYPE_CHECKING:
    from constitute.store import Store

LABEL = "label"
_NOTED = "label card"
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
    """The card of a run's labels: as it was noted, where no row has changed since, else counted anew.

    Raises `DataError` for a row that is damaged.
    """
    noted = store.meta(_NOTED)
    if isinstance(noted, dict) and noted.get("of") == _state(store):
        with suppress(ValidationError):
            return LabelCard.model_validate(noted.get("card"))
    counts = store.counts(LABEL)
    labelled = store.records(LABEL, LabelledPair)
    return label_card(labelled, counts["abstain"], counts["failed"], equal=equal_pairs(store))


def note_card(store: Store) -> None:
    """Count the labels and note their card: a million rows take half a minute, their note no time."""
    store.put_meta(_NOTED, {"of": _state(store), "card": card_of(store).model_dump(mode="json")})


def _state(store: Store) -> list[Any]:
    """What the card of a run depends on: its rows, and the version that counted them."""
    return [__version__, *store.stamp(LABEL)]


def equal_pairs(store: Store) -> int:
    """Pairs of a run that abstained because their answers are equal."""
    return sum(count for _, reason, count in store.reasons(LABEL) if reason == EQUAL_ANSWERS)


def label_card(labelled: Iterable[LabelledPair], abstained: int, failed: int, *, equal: int = 0) -> LabelCard:
    """The card of labelled pairs, read once; `equal` of the abstained ones are of equal answers."""
    tally = _Tally()
    for row in labelled:
        tally.add(row)
    return tally.card(abstained, failed, equal=equal)


def agreement_of(both: Iterable[tuple[float, float]]) -> Agreement:
    """How far labels agree with people: (P(A) of the label, P(A) of the person) for each pair."""
    people = _People()
    for label, human in both:
        people.add(label, human)
    return people.agreement


class _Tally:
    """Counts labelled pairs one by one for their card; keeps 8 bytes of each, its P(A)."""

    def __init__(self) -> None:
        self._p_a = array("d")
        self._p_first, self._mass = ExactSum(), ExactSum()
        self._votes, self._masses, self._ordered, self._censored, self._flips = 0, 0, 0, 0, 0
        self._ordered_pairs, self._flipped, self._thin = 0, 0, 0
        self._least = math.inf
        self._longer, self._longer_human, self._made = _Sides(), _Sides(), _Sides()
        self._contrasts = 0
        self._adaptive, self._settled, self._asked, self._voters = 0, 0, 0, 0
        self._people = _People()
        self._decided: Counter[tuple[str, str]] = Counter()

    def add(self, row: LabelledPair) -> None:
        """Count one pair."""
        label, pair = row.label, row.comparison
        self._p_a.append(label.p_a)
        self._decided[label.rule, label.level] += 1
        if len(pair.a) != len(pair.b):
            a_is_longer = len(pair.a) > len(pair.b)
            self._longer.add(a_is_longer, label.p_a)
            if pair.human is not None:
                self._longer_human.add(a_is_longer, pair.human)
        if pair.human is not None:
            self._people.add(label.p_a, pair.human)
        if label.voters:
            self._adaptive += 1
            self._settled += len(label.votes) < label.voters
            self._asked += len(label.votes)
            self._voters += label.voters
        if pair.contrast is not None:
            self._contrasts += 1
            self._made.add(pair.contrast.follows, label.p_a)
        self._add_votes(label)

    def _add_votes(self, label: PreferenceLabel) -> None:
        ordered, flips, masses = 0, 0, []
        for vote in label.votes:
            self._censored += vote.censored
            first = vote.p_first
            if first is not None:
                ordered += 1
                flips += bool(vote.flips)
                self._p_first.add(first)
            mass, least = vote.mass, vote.least_mass
            if mass is not None and least is not None:
                masses.append(mass)
                self._mass.add(mass)
                self._least = min(self._least, least)
        self._votes += len(label.votes)
        self._masses += len(masses)
        self._ordered += ordered
        self._flips += flips
        self._ordered_pairs += ordered > 0
        self._flipped += 2 * flips > ordered
        self._thin += bool(masses) and math.fsum(masses) / len(masses) < THIN_MASS

    def card(self, abstained: int, failed: int, *, equal: int = 0) -> LabelCard:
        """The card so far; `equal` of the abstained pairs are of equal answers."""
        p_a, n = self._p_a, len(self._p_a)
        low, high = wilson(self._flips, self._ordered)
        middle = median(p_a) if p_a else None
        decided = sorted(self._decided.items(), key=lambda each: (-each[1], each[0]))
        return LabelCard(
            pairs=n,
            abstained=abstained,
            failed=failed,
            votes=self._votes,
            ordered=self._ordered,
            censored=self._censored,
            flips=self._flips,
            flip_rate=_share(self._flips, self._ordered),
            flip_low=low,
            flip_high=high,
            p_first=_share(self._p_first.value, self._ordered),
            p_a=_share(math.fsum(p_a), n),
            margin=_share(math.fsum(abs(2 * p - 1) for p in p_a), n),
            mass=_share(self._mass.value, self._masses),
            least_mass=self._least if math.isfinite(self._least) else None,
            ordered_pairs=self._ordered_pairs,
            flipped=self._flipped,
            silent=abstained - equal,
            thin=self._thin,
            alike=0 if middle is None else sum(abs(p - middle) <= NOISE for p in p_a),
            p_median=middle,
            longer=self._longer.share,
            longer_human=self._longer_human.share,
            agreement=self._people.agreement if self._people.pairs else None,
            first_asked=self._first_asked() if self._adaptive else None,
            as_made=self._made.share if self._contrasts else None,
            decided=tuple(
                Decided(rule=rule, level=level, share=share_of(count, n)) for (rule, level), count in decided
            ),
        )

    def _first_asked(self) -> FirstAsked:
        settled = share_of(self._settled, self._adaptive)
        return FirstAsked(settled=settled, votes=self._asked, voters=self._voters)


class _Sides:
    """How often P(A) is on the side that is named, such as the longer answer's; P(A) = 0.5 is on none."""

    def __init__(self) -> None:
        self._on, self._n = 0, 0

    def add(self, is_a: bool, p_a: float) -> None:
        """Count one pair: whether A is the side, and P(A)."""
        if p_a != 0.5:
            self._n += 1
            self._on += is_a == (p_a > 0.5)

    @property
    def share(self) -> Estimate:
        """The share of the pairs so far."""
        return share_of(self._on, self._n)


class _People:
    """Counts (P(A) of the label, P(A) of a person)."""

    def __init__(self) -> None:
        self.pairs, self._decided, self._agree, self._human_ties, self._label_ties = 0, 0, 0, 0, 0

    def add(self, label: float, human: float) -> None:
        self.pairs += 1
        self._human_ties += human == 0.5
        self._label_ties += label == 0.5 and human != 0.5
        if label != 0.5 and human != 0.5:
            self._decided += 1
            self._agree += (label > 0.5) == (human > 0.5)

    @property
    def agreement(self) -> Agreement:
        """How far labels agree with people."""
        return Agreement(
            accuracy=share_of(self._agree, self._decided),
            kappa=kappa_of(self._agree, self._decided, 0.5),
            human_ties=self._human_ties,
            label_ties=self._label_ties,
        )


def _share(total: float, n: int) -> float | None:
    return total / n if n else None
