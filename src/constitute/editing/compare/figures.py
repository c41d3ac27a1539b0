"""Figures of the same drafts revised under two constitutions: win rates by judge, words, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from constitute.stats import Estimate, mean, mean_of, share_of
from constitute.types import PrincipleVote, Prompt, Record, Status

Judge = Literal["A", "B", "neutral"]
JUDGES: tuple[Judge, ...] = ("A", "B", "neutral")
EXAMPLES = 3


class Judgement(Record):
    """How a judge sees a pair of revisions: P(the revision under B is preferred), over all its votes.

    `flips` of its `votes` prefer another side in the other order; `p_first` is the mean probability of
    whatever was shown first.
    """

    p_b: float
    votes: int = 0
    flips: int = 0
    p_first: float | None = None


class Contest(Record):
    """One prompt: its draft and both revisions, None where there is none.

    A judge without a judgement is missing from `judgements`; `problems` says why, as (stage, status, reason).
    """

    id: str
    prompt: Prompt
    draft: str | None = None
    a: str | None = None
    b: str | None = None
    judgements: Mapping[Judge, Judgement] = {}
    problems: tuple[tuple[str, Status, str], ...] = ()

    @property
    def same(self) -> bool:
        """Whether both revisions have the same words; such a pair is a tie that nobody is asked about."""
        return self.a is not None and self.a == self.b

    @property
    def favour(self) -> float:
        """Mean P(B) over the judges that have a judgement, 0.5 without any."""
        return mean([each.p_b for each in self.judgements.values()]) if self.judgements else 0.5


class Standing(Record):
    """B against A in the eyes of one judge. `win` is mean P(B) with the same words counted as 0.5.

    Its interval is a percentile bootstrap over prompts, so pairs stay together. `for_b`, `for_a` and
    `ties` count pairs by side; `flips` is the share of votes that the order decides, `p_first` the mean
    probability of the reply shown first, over pairs (0.5 without order bias).
    """

    judge: Judge
    win: Estimate
    for_b: int
    for_a: int
    ties: int
    flips: Estimate
    p_first: float | None


class Contests(Record):
    """All prompts together. `compared` have both revisions, `differ` is the share whose words differ.

    `words` are mean numbers of words of draft, A and B, over the compared; `changed` the shares of
    revisions that differ from the draft. `problems` counts (stage, status, reason). Examples are ids of pairs
    whose words differ, most in favour of a side first.
    """

    prompts: int
    compared: int
    same: int
    differ: Estimate
    words: tuple[float, float, float] | None
    changed: tuple[Estimate, Estimate]
    standings: tuple[Standing, ...]
    problems: tuple[tuple[str, Status, str, int], ...]
    for_b: tuple[str, ...]
    for_a: tuple[str, ...]


def judgement_of(votes: Sequence[PrincipleVote], p_a: float) -> Judgement:
    """The judgement behind votes on the pair (revision under A, revision under B)."""
    return Judgement(
        p_b=1.0 - p_a,
        votes=len(votes),
        flips=sum(bool(vote.flips) for vote in votes),
        p_first=mean([0.5 if vote.p_first is None else vote.p_first for vote in votes]),
    )


def contests_of(rows: Sequence[Contest], *, seed: int = 0) -> Contests:
    """The figures over `rows`, one a prompt."""
    full = [(row, row.draft or "", row.a, row.b) for row in rows if row.a is not None and row.b is not None]
    same = sum(row.same for row in rows)
    texts = [(draft, a or "", b or "") for _, draft, a, b in full]
    words = tuple(mean([float(len(row[at].split())) for row in texts]) for at in range(3)) if texts else None
    problems = Counter(problem for row in rows for problem in row.problems)
    apart = [row for row in rows if row.judgements and not row.same]
    ranked = sorted(apart, key=lambda row: (-row.favour, row.id))
    return Contests(
        prompts=len(rows),
        compared=len(full),
        same=same,
        differ=share_of(len(full) - same, len(full)),
        words=None if words is None else (words[0], words[1], words[2]),
        changed=(
            share_of(sum(a != draft for draft, a, _ in texts), len(texts)),
            share_of(sum(b != draft for draft, _, b in texts), len(texts)),
        ),
        standings=tuple(_standing(judge, rows, seed) for judge in JUDGES),
        problems=tuple((*problem, n) for problem, n in problems.most_common()),
        for_b=tuple(row.id for row in ranked[:EXAMPLES] if row.favour > 0.5),
        for_a=tuple(row.id for row in ranked[::-1][:EXAMPLES] if row.favour < 0.5),
    )


def _standing(judge: Judge, rows: Sequence[Contest], seed: int) -> Standing:
    judgements = [row.judgements[judge] for row in rows if judge in row.judgements]
    wins = [judgement.p_b for judgement in judgements]
    first = [judgement.p_first for judgement in judgements if judgement.p_first is not None]
    return Standing(
        judge=judge,
        # One seed for all judges: their intervals come from the same resampled prompts.
        win=mean_of(wins, f"{seed} win"),
        for_b=sum(p > 0.5 for p in wins),
        for_a=sum(p < 0.5 for p in wins),
        ties=wins.count(0.5),
        flips=share_of(sum(j.flips for j in judgements), sum(j.votes for j in judgements)),
        p_first=mean(first) if first else None,
    )
