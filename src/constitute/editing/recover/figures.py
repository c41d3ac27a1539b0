"""How well each principle alone explains preferences, and what none of them explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from constitute.editing.recover.cases import Case, clustered_share, sides_by_prompt
from constitute.stats import Estimate, holm, mcnemar_exact
from constitute.types import Record

# Least p of Holm's correction that is no finding.
LEVEL = 0.05
_SAME = 1e-9

Finding = Literal["explains", "against", "unclear"]


class Alone(Record):
    """One principle on held-out pairs.

    `decides`: on how many it has a vote with |2p - 1| of the margin or more. `accuracy`: how often its vote
    is for the preferred answer, a vote of exactly 1/2 counting half; `when_decided` on those it decides. `p`:
    sign test of the votes against 1/2, a prompt a throw, after Holm over the principles. `missing` votes
    could not be had.
    """

    principle_id: str
    decides: Estimate
    accuracy: Estimate
    when_decided: Estimate
    p: float
    finding: Finding
    missing: int


class Unexplained(Record):
    """Pairs that no principle speaks for: none decides the `silent` ones, all deciders vote `against`.

    `share` is of all pairs. `shown` are ids of such pairs of the training side, those all vote against first,
    by how surely: a principle written from them can still be tested on the other side.
    """

    silent: int
    against: int
    share: Estimate
    shown: tuple[str, ...]


def alone(cases: Sequence[Case], names: Sequence[str], margin: float) -> tuple[Alone, ...]:
    """The figures of each principle over (held-out) cases; `names` are the ids in the order of the votes."""
    tests = []
    for at in range(len(names)):
        cast = [(case.votes[at], case.prompt) for case in cases]
        known = [(vote, prompt) for vote, prompt in cast if vote is not None]
        wins, losses = sides_by_prompt([v - 0.5 for v, _ in known], [prompt for _, prompt in known])
        tests.append((known, wins - losses, mcnemar_exact(wins, losses)))
    adjusted = holm([p for *_, p in tests])
    return tuple(
        _alone(name, len(cases), known, (net, p), margin)
        for name, (known, net, _), p in zip(names, tests, adjusted, strict=True)
    )


def _alone(
    name: str, pairs: int, known: Sequence[tuple[float, str]], test: tuple[int, float], margin: float
) -> Alone:
    net, p = test
    decided = [(vote, prompt) for vote, prompt in known if decides(vote, margin)]
    finding: Finding = "unclear"
    if p < LEVEL:
        finding = "explains" if net > 0 else "against"
    return Alone(
        principle_id=name,
        decides=clustered_share([float(decides(v, margin)) for v, _ in known], [x for _, x in known]),
        accuracy=clustered_share([right(v) for v, _ in known], [prompt for _, prompt in known]),
        when_decided=clustered_share([right(v) for v, _ in decided], [prompt for _, prompt in decided]),
        p=p,
        finding=finding,
        missing=pairs - len(known),
    )


def right(vote: float) -> float:
    """1 for a vote for the preferred answer, 0 against it, 1/2 where it says nothing."""
    return 0.5 if vote == 0.5 else float(vote > 0.5)


def decides(vote: float, margin: float) -> bool:
    """Whether a vote is confident: |2p - 1| of the margin or more."""
    return abs(2 * vote - 1) >= margin - _SAME


def spoken_for(case: Case, margin: float) -> Literal["for", "silent", "against"]:
    """Whether any principle that decides the case votes for its preferred answer."""
    sure = [vote for vote in case.votes if vote is not None and decides(vote, margin)]
    if not sure:
        return "silent"
    return "for" if any(vote > 0.5 for vote in sure) else "against"


def unexplained_cases(cases: Sequence[Case], margin: float) -> list[Case]:
    """The cases no principle speaks for, those that all deciders vote against first, the surest first."""
    found = [(case, spoken_for(case, margin)) for case in cases]

    def order(row: tuple[Case, str]) -> tuple[bool, float, str]:
        case, kind = row
        votes = [vote for vote in case.votes if vote is not None]
        return kind == "silent", sum(votes) / len(votes) if votes else 0.5, case.pair.id

    return [case for case, kind in sorted((row for row in found if row[1] != "for"), key=order)]


def unexplained(train: Sequence[Case], held_out: Sequence[Case], margin: float, show: int) -> Unexplained:
    """How many of all cases no principle speaks for; `show` of the training side by id."""
    both = [*train, *held_out]
    kinds = [spoken_for(case, margin) for case in both]
    return Unexplained(
        silent=kinds.count("silent"),
        against=kinds.count("against"),
        share=clustered_share([float(kind != "for") for kind in kinds], [case.prompt for case in both]),
        shown=tuple(case.pair.id for case in unexplained_cases(train, margin)[:show]),
    )
