"""Which principle decides which pair, from the votes of labelled pairs.

A principle decides a pair when its vote is confident, |2p - 1| >= `MARGIN`, and its contribution
w (2p - 1) is the largest among all votes in the direction of the label; equal contributions decide
together. The contributions sum to (2 P(A) - 1) times the sum of weights, so the largest one carries the label
most. The alternatives are the largest |change of P(A)| when a vote is left out, which may name a vote against
the label and shrinks where others say the same, and Shapley values, which for a sum are these contributions.
A vote that was not cast is missing, never 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from constitute.editing.attribute.alike import Subset, VoteGroup, groups_of, side, smallest_subset
from constitute.stats import Estimate, mean, mean_of, share_of
from constitute.types import LabelledPair, PrincipleVote, Record

MARGIN = 0.2
_SAME = 1e-9


class PairVotes(Record):
    """A pair: P(A) of its label, P(A) by principle (None where missing) and what decides it."""

    id: str
    prompt: str
    p_a: float
    votes: tuple[float | None, ...]
    deciders: tuple[str, ...]
    confident: bool
    conflict: bool


class Influence(Record):
    """What one principle does; shares are over the pairs it voted on.

    `without` is the share of labels that turn when it is left out, and `change` the mean |change of P(A)|;
    both are over the pairs that others voted on too. `silent` is the share of votes with |2p - 1| under the
    margin.
    """

    principle_id: str
    weight: float
    decides: Estimate
    change: Estimate
    without: Estimate
    agrees: Estimate
    confidence: float | None
    order_flips: Estimate
    silent: Estimate
    missing: int


class Conflict(Record):
    """Two principles with confident votes both ways on `count` of the pairs both voted on."""

    first: str
    second: str
    count: int
    against: Estimate


class Attribution(Record):
    """The matrix and its figures. `columns` go by falling P(A), `influences` by group, then id.

    `missing` votes were not cast, and no vote decides the `undecided` pairs. `subset` is None where no pair
    is decided.
    """

    margin: float
    columns: tuple[PairVotes, ...]
    influences: tuple[Influence, ...]
    groups: tuple[VoteGroup, ...]
    conflicts: tuple[Conflict, ...]
    subset: Subset | None
    missing: int
    undecided: int


def attribute(
    rows: Sequence[LabelledPair], principles: Sequence[str] = (), margin: float = MARGIN
) -> Attribution:
    """Every figure of the matrix; `principles` adds ids that may have no vote at all.

    Votes of weight 0 are left out of the label and decide nothing. Raises `ValueError` for no rows.
    """
    if not rows:
        raise ValueError("no labelled pairs to attribute")
    rows = sorted(rows, key=lambda row: row.id)
    ids = sorted({vote.principle_id for row in rows for vote in row.label.votes} | set(principles))
    table = [{vote.principle_id: vote for vote in row.label.votes} for row in rows]
    groups = groups_of(ids, [{name: 2 * v.p_a - 1 for name, v in votes.items()} for votes in table], margin)
    order = [name for group in groups for name in group.members]
    columns = [_column(row, votes, order, margin) for row, votes in zip(rows, table, strict=True)]
    decided = [
        ({name: v.weight * (2 * v.p_a - 1) for name, v in votes.items()}, side(column.p_a - 0.5))
        for votes, column in zip(table, columns, strict=True)
        if column.deciders
    ]
    return Attribution(
        margin=margin,
        columns=tuple(sorted(columns, key=lambda column: (-column.p_a, column.id))),
        influences=tuple(_influence(name, table, columns, margin) for name in order),
        groups=tuple(groups),
        conflicts=tuple(_conflicts(ids, table, margin)),
        subset=smallest_subset(ids, decided),
        missing=sum(len(ids) - len(votes) for votes in table),
        undecided=len(table) - len(decided),
    )


def _tilt(votes: Sequence[PrincipleVote]) -> float | None:
    """2 P(A) - 1 over `votes`, in [-1, 1]; None where they weigh nothing."""
    total = math.fsum(vote.weight for vote in votes)
    return math.fsum(vote.weight * (2 * vote.p_a - 1) for vote in votes) / total if total > 0 else None


def _column(
    row: LabelledPair, votes: dict[str, PrincipleVote], order: Sequence[str], margin: float
) -> PairVotes:
    tilt = _tilt(list(votes.values()))
    towards = side(tilt or 0.0)
    pushes = {name: towards * vote.weight * (2 * vote.p_a - 1) for name, vote in votes.items()}
    most = max(pushes.values(), default=0.0)
    sure = {name: side(2 * v.p_a - 1) for name, v in votes.items() if _confident(v, margin) and v.weight > 0}
    return PairVotes(
        id=row.id,
        prompt=row.comparison.prompt.messages[-1].content,
        p_a=0.5 if tilt is None else (1 + tilt) / 2,
        votes=tuple(votes[name].p_a if name in votes else None for name in order),
        deciders=tuple(
            n for n in order if n in sure and towards and pushes[n] > 0 and pushes[n] >= most - _SAME
        ),
        confident=bool(sure),
        conflict=len(set(sure.values())) == 2,
    )


def _confident(vote: PrincipleVote, margin: float) -> bool:
    return abs(2 * vote.p_a - 1) >= margin - _SAME


def _influence(
    name: str, table: Sequence[dict[str, PrincipleVote]], columns: Sequence[PairVotes], margin: float
) -> Influence:
    own = [(votes, column) for votes, column in zip(table, columns, strict=True) if name in votes]
    cast = [votes[name] for votes, _ in own]
    changes: list[float] = []
    turned = 0
    for votes, _ in own:
        before = _tilt(list(votes.values()))
        after = _tilt([vote for other, vote in votes.items() if other != name])
        if before is not None and after is not None:
            changes.append(abs(after - before) / 2)
            turned += side(after) != side(before)
    n = len(cast)
    agrees = sum(
        side(vote.p_a - 0.5) == side(column.p_a - 0.5) for vote, (_, column) in zip(cast, own, strict=True)
    )
    return Influence(
        principle_id=name,
        weight=mean([vote.weight for vote in cast]) if cast else 0.0,
        decides=share_of(sum(name in column.deciders for _, column in own), n),
        change=mean_of(changes, resamples=1000),
        without=share_of(turned, len(changes)),
        agrees=share_of(agrees, n),
        confidence=mean([abs(2 * vote.p_a - 1) for vote in cast]) if cast else None,
        order_flips=share_of(
            sum(bool(vote.flips) for vote in cast), sum(vote.flips is not None for vote in cast)
        ),
        silent=share_of(sum(not _confident(vote, margin) for vote in cast), n),
        missing=len(table) - n,
    )


def _conflicts(
    ids: Sequence[str], table: Sequence[dict[str, PrincipleVote]], margin: float
) -> list[Conflict]:
    found = []
    for first, second in combinations(ids, 2):
        both = [(v[first], v[second]) for v in table if first in v and second in v]
        against = sum(
            a.weight > 0
            and b.weight > 0
            and _confident(a, margin)
            and _confident(b, margin)
            and side(a.p_a - 0.5) != side(b.p_a - 0.5)
            for a, b in both
        )
        if against:
            found.append(
                Conflict(first=first, second=second, count=against, against=share_of(against, len(both)))
            )
    return sorted(found, key=lambda c: (-c.count, c.first, c.second))
