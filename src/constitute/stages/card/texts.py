"""What the preferred answers are like as texts: longer, or all alike."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from constitute.moments import Line, Moments
from constitute.stages.card.records import Boilerplate, Lengths
from constitute.stages.filters.base import words
from constitute.stages.filters.refusal import refuses
from constitute.stats import Estimate, share_of
from constitute.types import Comparison

# Words of an opening: "I'm sorry, but I can't" and "As an AI language model" have five.
OPENING = 5
# Different openings that are counted at a time.
OPENINGS = 1000


@dataclass
class Wins:
    """How often the side that is named wins, such as the longer answer; pairs at 0.5 are left out."""

    won: int = 0
    n: int = 0

    def add(self, p: float) -> None:
        """Count P of the named side."""
        self.n += p != 0.5
        self.won += p > 0.5

    def share(self) -> Estimate:
        """The share it won."""
        return share_of(self.won, self.n)


@dataclass
class Longer:
    """What length has to do with labels, or with people's preference."""

    wins: Wins = field(default_factory=Wins)
    line: Line = field(default_factory=Line)

    def add(self, pair: Comparison, p_a: float) -> None:
        """Count a pair whose answers differ in length."""
        a, b = len(pair.a), len(pair.b)
        if a == b:
            return
        p = p_a if a > b else 1 - p_a
        self.wins.add(p)
        # An empty answer counts as one character, so that there is a ratio.
        self.line.add(math.log2(max(a, b) / max(1, min(a, b))), p)


@dataclass
class Openings:
    """The commonest opening of texts, in constant memory (J. Misra and D. Gries, 1982)."""

    n: int = 0
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def add(self, opening: tuple[str, ...]) -> None:
        """Count an opening; where there is no room for a new one, every count gives up one."""
        self.n += 1
        if opening in self.counts or len(self.counts) < OPENINGS:
            self.counts[opening] += 1
            return
        self.counts = Counter({words: count - 1 for words, count in self.counts.items() if count > 1})

    def commonest(self) -> tuple[str, Estimate]:
        """The opening, of equals the first in the alphabet, and the share of texts that open so."""
        if not self.counts:
            return "", share_of(0, self.n)
        opening, count = min(self.counts.items(), key=lambda each: (-each[1], each[0]))
        return " ".join(opening), share_of(count, self.n)


@dataclass
class Texts:
    """Lengths and boilerplate of what was preferred and what was not; pairs at 0.5 have neither."""

    longer: Longer = field(default_factory=Longer)
    longer_human: Longer = field(default_factory=Longer)
    openings: Openings = field(default_factory=Openings)
    chosen_words: Moments = field(default_factory=Moments)
    rejected_words: Moments = field(default_factory=Moments)
    refusals: int = 0
    refusals_rejected: int = 0

    def add(self, pair: Comparison, p_a: float) -> None:
        """Count a labelled pair."""
        self.longer.add(pair, p_a)
        if pair.human is not None:
            self.longer_human.add(pair, pair.human)
        if p_a == 0.5:
            return
        chosen, rejected = (pair.a, pair.b) if p_a > 0.5 else (pair.b, pair.a)
        said = words(chosen)
        self.openings.add(tuple(said[:OPENING]))
        self.chosen_words.add(len(said))
        self.rejected_words.add(len(words(rejected)))
        self.refusals += refuses(chosen)
        self.refusals_rejected += refuses(rejected)

    def lengths(self) -> Lengths:
        """Whether length decides, and how long answers are."""
        return Lengths(
            slope=self.longer.line.slope(),
            slope_human=self.longer_human.line.slope(),
            chosen_words=self.chosen_words.estimate(),
            rejected_words=self.rejected_words.estimate(),
        )

    def boilerplate(self) -> Boilerplate:
        """What the preferred answers have in common."""
        opening, share = self.openings.commonest()
        return Boilerplate(
            opening=opening,
            opens_so=share,
            refusals=share_of(self.refusals, self.openings.n),
            refusals_rejected=share_of(self.refusals_rejected, self.openings.n),
        )
