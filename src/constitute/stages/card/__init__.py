"""The label card: what a set of preference labels looks like before anybody trains on it.

Start at `label_card`; `records` says what the figures mean, `lines` how they are told. Rows are counted one
after the other, in memory that does not grow with them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from constitute import __version__
from constitute.moments import Moments
from constitute.stages.card.people import People
from constitute.stages.card.principles import Principles
from constitute.stages.card.records import Decided, FirstAsked, LabelCard
from constitute.stages.card.texts import Texts
from constitute.stages.card.writers import Authors
from constitute.stats import share_of
from constitute.types import LabelledPair, PreferenceLabel

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
# Values of P(A) that are counted together, to find the median without keeping each.
_STEPS = 10_000
# Stage whose rows hold an answer -> what such an answer's source begins with.
_SOURCES = {"generate": "response", "revise": "revision"}


def card_of(store: Store, people: Mapping[str, float] | None = None) -> LabelCard:
    """The card of a run's labels, `people` as in `label_card`.

    As it was noted, where nobody reviewed the pairs and no row has changed since; else counted anew. Raises
    `DataError` for a damaged row.
    """
    noted = None if people else store.meta(_NOTED)
    if isinstance(noted, dict) and noted.get("of") == _state(store):
        with suppress(ValidationError):
            return LabelCard.model_validate(noted.get("card"))
    counts = store.counts(LABEL)
    return label_card(
        store.records(LABEL, LabelledPair),
        counts["abstain"],
        counts["failed"],
        equal=equal_pairs(store),
        authors=authors_of(store),
        people=people,
    )


def note_card(store: Store) -> None:
    """Count the labels and note their card: a million rows take minutes, their note no time."""
    store.put_meta(_NOTED, {"of": _state(store), "card": card_of(store).model_dump(mode="json")})


def _state(store: Store) -> list[Any]:
    """What the card of a run depends on: its rows, who made them, and the version that counted them."""
    models = [_model(store, stage) for stage in (LABEL, *_SOURCES)]
    return [__version__, *models, *store.stamp(LABEL)]


def authors_of(store: Store) -> Authors:
    """The judge of a run and the models that wrote its answers, as its stages noted them."""
    made_by = {word: _model(store, stage) for stage, word in _SOURCES.items()}
    return Authors(_model(store, LABEL), made_by)


def equal_pairs(store: Store) -> int:
    """Pairs of a run that abstained because their answers are equal."""
    return sum(count for _, reason, count in store.reasons(LABEL) if reason == EQUAL_ANSWERS)


def label_card(
    labelled: Iterable[LabelledPair],
    abstained: int,
    failed: int,
    *,
    equal: int = 0,
    authors: Authors | None = None,
    people: Mapping[str, float] | None = None,
) -> LabelCard:
    """The card of labelled pairs, read once; `equal` of the abstained ones are of equal answers.

    `authors` knows the judge and who wrote the answers, where that is known. `people` holds P(A) as reviewers
    chose, by pair; it stands before what the pair's file says.
    """
    votes, spread, against, texts, principles = _Votes(), _Spread(), People(), Texts(), Principles()
    made: list[int] = [0, 0]
    authors, reviewed = authors or Authors(), people or {}
    for row in labelled:
        p_a, pair = row.label.p_a, row.comparison
        if row.id in reviewed:
            pair = pair.model_copy(update={"human": reviewed[row.id]})
        votes.add(row.label)
        spread.add(p_a)
        texts.add(pair, p_a)
        principles.add(row.label.votes)
        authors.add(pair, p_a)
        if pair.contrast is not None and p_a != 0.5:
            made = [made[0] + (pair.contrast.follows == (p_a > 0.5)), made[1] + 1]
        if pair.human is not None:
            against.add(p_a, pair.human)
    middle = spread.median()
    return LabelCard(
        **votes.figures(),
        pairs=spread.p_a.n,
        abstained=abstained,
        failed=failed,
        silent=abstained - equal,
        p_a=spread.p_a.estimate(high=1.0),
        margin=spread.margin.estimate(high=1.0),
        entropy=spread.entropy.estimate(high=1.0),
        p_median=middle,
        alike=spread.near(middle),
        longer=texts.longer.wins.share(),
        longer_human=texts.longer_human.wins.share(),
        lengths=texts.lengths(),
        boilerplate=texts.boilerplate(),
        agreement=against.agreement() if against.brier.n else None,
        calibration=against.calibration(),
        principles=principles.agreement(),
        writers=authors.writers(),
        as_made=share_of(*made) if made[1] else None,
    )


@dataclass
class _Votes:
    """Orders, mass and rules of the votes."""

    pairs: int = 0
    votes: int = 0
    censored: int = 0
    ordered: int = 0
    flips: int = 0
    ordered_pairs: int = 0
    flipped: int = 0
    thin: int = 0
    adaptive: int = 0
    settled: int = 0
    asked: int = 0
    voters: int = 0
    least: float = math.inf
    first: Moments = field(default_factory=Moments)
    mass: Moments = field(default_factory=Moments)
    decided: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, label: PreferenceLabel) -> None:
        self.pairs += 1
        self.votes += len(label.votes)
        self.censored += sum(vote.censored for vote in label.votes)
        self.decided[label.rule, label.level] += 1
        first = [vote.p_first for vote in label.votes if vote.p_first is not None]
        if first:
            self.ordered += len(first)
            self.flips += label.flips
            self.ordered_pairs += 1
            self.flipped += label.flipped
            self.first.add(math.fsum(first) / len(first))
        masses = [vote.mass for vote in label.votes if vote.mass is not None]
        if masses:
            mean = math.fsum(masses) / len(masses)
            self.mass.add(mean)
            self.thin += mean < THIN_MASS
        if label.voters:
            self.adaptive += 1
            self.settled += len(label.votes) < label.voters
            self.asked += len(label.votes)
            self.voters += label.voters
        if label.mass is not None:
            self.least = min(self.least, label.mass)

    def figures(self) -> dict[str, Any]:
        ranked = sorted(self.decided.items(), key=lambda each: (-each[1], each[0]))
        counts = ("votes", "censored", "ordered", "flips", "ordered_pairs", "flipped", "thin")
        return {
            **{name: getattr(self, name) for name in counts},
            "flip_rate": share_of(self.flips, self.ordered),
            "flipped_rate": share_of(self.flipped, self.ordered_pairs),
            "p_first": self.first.estimate(high=1.0),
            "mass": self.mass.estimate(high=1.0),
            "least_mass": self.least if math.isfinite(self.least) else None,
            "first_asked": FirstAsked(
                settled=share_of(self.settled, self.adaptive), votes=self.asked, voters=self.voters
            )
            if self.adaptive
            else None,
            "decided": tuple(
                Decided(rule=rule, level=level, share=share_of(count, self.pairs))
                for (rule, level), count in ranked
            ),
        }


@dataclass
class _Spread:
    """How P(A) is spread: values are counted in steps, each with the sum of what fell into it."""

    p_a: Moments = field(default_factory=Moments)
    margin: Moments = field(default_factory=Moments)
    entropy: Moments = field(default_factory=Moments)
    steps: dict[int, tuple[int, float]] = field(default_factory=dict)

    def add(self, p_a: float) -> None:
        self.p_a.add(p_a)
        self.margin.add(abs(2 * p_a - 1))
        self.entropy.add(entropy(p_a))
        count, total = self.steps.get(step := round(p_a * _STEPS), (0, 0.0))
        self.steps[step] = count + 1, total + p_a

    def median(self) -> float | None:
        """The median, exact where the values of its step are equal; None of nothing."""
        if not self.p_a.n:
            return None
        return (self._at((self.p_a.n - 1) // 2) + self._at(self.p_a.n // 2)) / 2

    def _at(self, place: int) -> float:
        for _, (count, total) in sorted(self.steps.items()):
            if place < count:
                return total / count
            place -= count
        raise IndexError(place)

    def near(self, middle: float | None) -> int:
        """How many values lie within NOISE of `middle`."""
        if middle is None:
            return 0
        return sum(n for n, total in self.steps.values() if abs(total / n - middle) <= NOISE + 1e-12)


def entropy(p: float) -> float:
    """Entropy of a choice with probability `p`, in bits: 1 at 0.5, 0 where it is certain."""
    return math.fsum(-x * math.log2(x) for x in (p, 1 - p) if x > 0)


def _model(store: Store, stage: str) -> str:
    """The name of the model that made a stage's rows; empty where that is not noted."""
    noted = store.meta(f"stage:{stage}")
    model = noted.get("model") if isinstance(noted, Mapping) else None
    name = model.get("name") if isinstance(model, Mapping) else None
    return name if isinstance(name, str) else ""
