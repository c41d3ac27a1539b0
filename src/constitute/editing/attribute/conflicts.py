"""Where principles pull a pair in opposite directions: how it was decided, and what another rule would do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from constitute.editing.attribute.alike import side
from constitute.stages.labels.rules import Ruling
from constitute.stats import Estimate, mean_of, share_of
from constitute.types import PrincipleVote, Record

# The label that votes make; None where they weigh nothing.
Settle = Callable[[Sequence[PrincipleVote]], Ruling | None]
_SAME = 1e-9


class Conflict(Record):
    """Two principles with confident votes both ways on `count` of the pairs both voted on.

    The label goes with the first on a share `with_first` of these pairs, with the second on `with_second`,
    and with neither on the rest, where P(A) is 0.5.
    """

    first: str
    second: str
    count: int
    against: Estimate
    with_first: Estimate
    with_second: Estimate


class OtherRule(Record):
    """What another rule would change: the share of labels that turn, and the mean |change of P(A)|."""

    rule: str
    turned: int
    turns: Estimate
    change: Estimate


def confident(vote: PrincipleVote, margin: float) -> bool:
    """Whether |2 P(A) - 1| reaches the margin."""
    return abs(2 * vote.p_a - 1) >= margin - _SAME


def conflicts_of(
    ids: Sequence[str],
    table: Sequence[Mapping[str, PrincipleVote]],
    labels: Sequence[float],
    margin: float,
) -> list[Conflict]:
    """The conflicts of every two principles, the most frequent first; `labels` holds P(A) by pair."""
    found = []
    rows = list(zip(table, labels, strict=True))
    for first, second in combinations(ids, 2):
        both = [(v[first], v[second], p_a) for v, p_a in rows if first in v and second in v]
        # Which way the first pulls, and which way the label goes.
        opposed = [
            (side(a.p_a - 0.5), side(p_a - 0.5))
            for a, b, p_a in both
            if a.weight > 0
            and b.weight > 0
            and confident(a, margin)
            and confident(b, margin)
            and side(a.p_a - 0.5) != side(b.p_a - 0.5)
        ]
        if not opposed:
            continue
        count = len(opposed)
        found.append(
            Conflict(
                first=first,
                second=second,
                count=count,
                against=share_of(count, len(both)),
                with_first=share_of(sum(label == pull for pull, label in opposed), count),
                with_second=share_of(sum(label == -pull for pull, label in opposed), count),
            )
        )
    return sorted(found, key=lambda c: (-c.count, c.first, c.second))


def other_rule(
    rule: str, table: Sequence[Mapping[str, PrincipleVote]], labels: Sequence[float], settle: Settle
) -> OtherRule:
    """What `rule`, which `settle` applies, would make of the same votes; `labels` holds P(A) by pair."""
    settled = [(p_a, settle(list(votes.values()))) for votes, p_a in zip(table, labels, strict=True)]
    both = [(p_a, found.p_a) for p_a, found in settled if found is not None]
    turned = sum(side(before - 0.5) != side(after - 0.5) for before, after in both)
    return OtherRule(
        rule=rule,
        turned=turned,
        turns=share_of(turned, len(both)),
        change=mean_of([abs(after - before) for before, after in both], resamples=1000),
    )
