"""Which principle decides which pair, from the votes of labelled pairs.

A principle decides a pair when its vote is confident, |2p - 1| >= `MARGIN`, and its contribution
s (2p - 1) is the largest among all votes in the direction of the label; equal contributions decide together.
s is the share that `label.rule` gives it (by `mean` that of its weight). The contributions sum to 2 P(A) - 1,
so the largest one carries the label most. The alternatives are the largest |change of P(A)| when a vote is
left out, which may name a vote against the label and shrinks where others say the same, and Shapley values,
which for a sum are these contributions.
A vote that was not cast is missing, never 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence

from constitute.config import LabelConfig
from constitute.editing.attribute.alike import Subset, VoteGroup, groups_of, side, smallest_subset
from constitute.editing.attribute.conflicts import (
    Conflict,
    OtherRule,
    Settle,
    confident,
    conflicts_of,
    other_rule,
)
from constitute.stages.labels.rules import RULES, Levels, settle
from constitute.stats import Estimate, mean, mean_of, share_of
from constitute.types import LabelledPair, PrincipleVote, Record

MARGIN = 0.2
_SAME = 1e-9
# The rule that needs the levels of the principles.
LEVELLED = "priority"


class PairVotes(Record):
    """A pair: P(A) of its label, P(A) by principle (None where missing) and what decides it.

    `level` is the level that decided, "" where no level did.
    """

    id: str
    prompt: str
    p_a: float
    votes: tuple[float | None, ...]
    deciders: tuple[str, ...]
    confident: bool
    conflict: bool
    level: str = ""


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


class Attribution(Record):
    """The matrix and its figures. `columns` go by falling P(A), `influences` by group, then id.

    `missing` votes were not cast, and no vote decides the `undecided` pairs. `subset` is None where no pair
    is decided, and under another rule than `mean`, whose decisions are no sums. `others` are the rules that
    did not decide; `priority` is among them only where the levels are known. `alone` pairs have a single
    vote, which is the label under every rule.
    """

    rule: str
    margin: float
    columns: tuple[PairVotes, ...]
    influences: tuple[Influence, ...]
    groups: tuple[VoteGroup, ...]
    conflicts: tuple[Conflict, ...]
    others: tuple[OtherRule, ...]
    alone: int
    subset: Subset | None
    missing: int
    undecided: int


def attribute(
    rows: Sequence[LabelledPair],
    principles: Sequence[str] = (),
    margin: float = MARGIN,
    cfg: LabelConfig | None = None,
    levels: Levels | None = None,
) -> Attribution:
    """Every figure of the matrix; `principles` adds ids that may have no vote at all.

    The labels are those that `cfg` makes of the votes; `levels` are those of the principles, None where they
    are not known. Votes of weight 0 are left out of the label and decide nothing. Raises `ValueError` for no
    rows, and for the rule `priority` without levels.
    """
    if not rows:
        raise ValueError("no labelled pairs to attribute")
    cfg = cfg or LabelConfig()
    if cfg.rule == LEVELLED and levels is None:
        raise ValueError("the levels of the principles are not known")
    settled = _settling(cfg, levels)
    rows = sorted(rows, key=lambda row: row.id)
    ids = sorted({vote.principle_id for row in rows for vote in row.label.votes} | set(principles))
    table = [{vote.principle_id: vote for vote in row.label.votes} for row in rows]
    groups = groups_of(ids, [{name: 2 * v.p_a - 1 for name, v in votes.items()} for votes in table], margin)
    order = [name for group in groups for name in group.members]
    columns = [_column(row, votes, order, margin, settled) for row, votes in zip(rows, table, strict=True)]
    labels = [column.p_a for column in columns]
    others = [name for name in RULES if name != cfg.rule and (name != LEVELLED or levels is not None)]
    decided = [
        ({name: v.weight * (2 * v.p_a - 1) for name, v in votes.items()}, side(column.p_a - 0.5))
        for votes, column in zip(table, columns, strict=True)
        if column.deciders
    ]
    return Attribution(
        rule=cfg.rule,
        margin=margin,
        columns=tuple(sorted(columns, key=lambda column: (-column.p_a, column.id))),
        influences=tuple(_influence(name, table, columns, margin, settled) for name in order),
        groups=tuple(groups),
        conflicts=tuple(conflicts_of(ids, table, labels, margin)),
        others=tuple(
            other_rule(name, table, labels, _settling(cfg.model_copy(update={"rule": name}), levels))
            for name in others
        ),
        alone=sum(sum(vote.weight > 0 for vote in votes.values()) == 1 for votes in table),
        subset=smallest_subset(ids, decided) if cfg.rule == "mean" else None,
        missing=sum(len(ids) - len(votes) for votes in table),
        undecided=len(table) - len(decided),
    )


def _settling(cfg: LabelConfig, levels: Levels | None) -> Settle:
    """The rule as a function of votes alone; None for votes that weigh nothing."""
    return lambda votes: settle(votes, cfg, levels or ()) if any(vote.weight > 0 for vote in votes) else None


def _column(
    row: LabelledPair,
    votes: dict[str, PrincipleVote],
    order: Sequence[str],
    margin: float,
    settled: Settle,
) -> PairVotes:
    found = settled(list(votes.values()))
    p_a, shares, level = (0.5, {}, "") if found is None else (found.p_a, found.shares, found.level)
    towards = side(2 * p_a - 1)
    pushes = {name: towards * share * (2 * votes[name].p_a - 1) for name, share in shares.items()}
    most = max(pushes.values(), default=0.0)
    sure = {name: side(2 * v.p_a - 1) for name, v in votes.items() if confident(v, margin) and v.weight > 0}
    return PairVotes(
        id=row.id,
        prompt=row.comparison.prompt.messages[-1].content,
        p_a=p_a,
        votes=tuple(votes[name].p_a if name in votes else None for name in order),
        deciders=tuple(
            n for n in order if n in sure and n in pushes and pushes[n] > 0 and pushes[n] >= most - _SAME
        ),
        confident=bool(sure),
        conflict=len(set(sure.values())) == 2,
        level=level,
    )


def _influence(
    name: str,
    table: Sequence[dict[str, PrincipleVote]],
    columns: Sequence[PairVotes],
    margin: float,
    settled: Settle,
) -> Influence:
    own = [(votes, column) for votes, column in zip(table, columns, strict=True) if name in votes]
    cast = [votes[name] for votes, _ in own]
    changes: list[float] = []
    turned = 0
    for votes, column in own:
        after = settled([vote for other, vote in votes.items() if other != name])
        if after is not None:
            changes.append(abs(after.p_a - column.p_a))
            turned += side(2 * after.p_a - 1) != side(2 * column.p_a - 1)
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
        silent=share_of(sum(not confident(vote, margin) for vote in cast), n),
        missing=len(table) - n,
    )
