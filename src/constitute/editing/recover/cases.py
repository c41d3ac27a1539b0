"""Pairs with a preference, and the votes of principles on them, turned so that the preferred answer is first.

Every figure of `recover` is the same whichever answer a file calls A: a vote counts as P(preferred).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

from constitute.data.prompts import content_id
from constitute.errors import UsageError
from constitute.stats import Estimate, mean, quantile, wilson
from constitute.types import Comparison, Record

# Pairs on either side of the split; of fewer, a sign test reaches p < 0.05 only where all are alike.
LEAST = 8


class Case(Record):
    """A pair whose preferred answer is known, and P(preferred) by principle, None where a vote is missing."""

    pair: Comparison
    prompt: str
    first_preferred: bool
    votes: tuple[float | None, ...] = ()

    @property
    def preferred(self) -> str:
        return self.pair.a if self.first_preferred else self.pair.b

    @property
    def other(self) -> str:
        return self.pair.b if self.first_preferred else self.pair.a


class LeftOut(Record):
    """Pairs that say nothing of a preference, by why; `not_drawn` are those beyond the number asked for."""

    unjudged: int = 0
    undecided: int = 0
    equal: int = 0
    not_drawn: int = 0


def cases_of(pairs: Iterable[Comparison], n: int, seed: int) -> tuple[list[Case], LeftOut]:
    """`n` pairs with a preference (`human`), drawn by the seed, and how many were left out and why.

    Raises `UsageError` where no pair has one.
    """
    found: list[Case] = []
    unjudged = undecided = equal = 0
    for pair in pairs:
        if pair.human is None:
            unjudged += 1
        elif pair.a == pair.b:
            equal += 1
        elif pair.human == 0.5:
            undecided += 1
        else:
            prompt = content_id(pair.prompt.messages)
            found.append(Case(pair=pair, prompt=prompt, first_preferred=pair.human > 0.5))
    if not found:
        raise UsageError(
            f"no pair says which answer is preferred ({unjudged} without a preference, "
            f"{undecided} undecided, {equal} with equal answers); "
            "give pairs as chosen and rejected, or with the key human"
        )
    drawn = found
    if len(found) > n:
        drawn = [found[at] for at in sorted(random.Random(f"{seed}:recover").sample(range(len(found)), n))]
    counts = LeftOut(unjudged=unjudged, undecided=undecided, equal=equal, not_drawn=len(found) - len(drawn))
    return drawn, counts


def split(cases: Sequence[Case], test_share: float, seed: int) -> tuple[list[Case], list[Case]]:
    """Training and held-out cases, no prompt on both sides; the same for the same prompts and seed.

    Prompts are taken in random order until the held-out side has its share. Raises `UsageError` where either
    side has fewer than LEAST cases.
    """
    counts: dict[str, int] = defaultdict(int)
    for case in cases:
        counts[case.prompt] += 1
    order = sorted(counts)
    random.Random(f"{seed}:recover split").shuffle(order)
    held: set[str] = set()
    size = 0
    for prompt in order:
        # Taken only where that brings the side nearer to its share.
        if abs(size + counts[prompt] - test_share * len(cases)) < abs(size - test_share * len(cases)):
            held.add(prompt)
            size += counts[prompt]
    train = [case for case in cases if case.prompt not in held]
    test = [case for case in cases if case.prompt in held]
    if min(len(train), len(test)) < LEAST:
        raise UsageError(
            f"{len(train)} pairs to fit on and {len(test)} held out, of {len(counts)} prompts; each side "
            f"needs {LEAST}: give more pairs, a larger -n or another --test-share"
        )
    return train, test


def clustered_share(values: Sequence[float], prompts: Sequence[str]) -> Estimate:
    """The mean of values in [0, 1] with a Wilson interval that knows of pairs of one prompt.

    n in the interval is divided by the design effect (L. Kish, Survey Sampling, 1965): the variance of the
    mean between prompts over that of independent pairs, at least 1. Where all values are alike, prompts are
    counted.
    """
    n = len(values)
    if not n:
        return Estimate(value=None, low=None, high=None, n=0)
    share = mean(values)
    sums: dict[str, float] = defaultdict(float)
    for value, prompt in zip(values, prompts, strict=True):
        sums[prompt] += value - share
    independent = share * (1 - share) / n
    if independent < 1e-12 or len(sums) == 1:
        effect = n / len(sums)
    else:
        between = sum(each * each for each in sums.values()) * len(sums) / (len(sums) - 1) / n**2
        effect = max(1.0, between / independent)
    low, high = wilson(min(share * n / effect, n / effect), n / effect)
    return Estimate(value=share, low=low, high=high, n=n)


def clustered_mean(
    values: Sequence[float], prompts: Sequence[str], seed: str, resamples: int = 2000
) -> Estimate:
    """The mean of values with a bootstrap interval that draws whole prompts (Efron 1979)."""
    if not values:
        return Estimate(value=None, low=None, high=None, n=0)
    groups: dict[str, list[float]] = defaultdict(list)
    for value, prompt in zip(values, prompts, strict=True):
        groups[prompt].append(value)
    sums = [(sum(group), len(group)) for group in groups.values()]
    rng = random.Random(seed)
    drawn = []
    for _ in range(resamples):
        taken = rng.choices(sums, k=len(sums))
        drawn.append(sum(total for total, _ in taken) / sum(count for _, count in taken))
    drawn.sort()
    low, high = quantile(drawn, 0.025), quantile(drawn, 0.975)
    return Estimate(value=mean(values), low=low, high=high, n=len(values))


def sides_by_prompt(tilts: Sequence[float], prompts: Sequence[str]) -> tuple[int, int]:
    """In how many prompts the tilts (above 0 for, below 0 against) are mostly for and mostly against.

    What a sign test counts: pairs of one prompt are one throw of the coin.
    """
    net: dict[str, int] = defaultdict(int)
    for tilt, prompt in zip(tilts, prompts, strict=True):
        net[prompt] += (tilt > 0) - (tilt < 0)
    return sum(each > 0 for each in net.values()), sum(each < 0 for each in net.values())
