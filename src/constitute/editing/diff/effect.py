"""What an edit of a constitution does to the labels of pairs: flips, |change of P(A)|, the largest movers.

Deviates from comparing two runs in that a pair's votes under both constitutions stand side by side, so
every interval is over pairs (paired).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from constitute.stages.labels.rules import Ruling, mean
from constitute.stats import Estimate, mean_of, share_of
from constitute.types import Comparison, PrincipleVote, Record

MOVERS = 10
Side = tuple[PrincipleVote, ...] | str
# Makes a label of votes, as `label.rule` and the levels of a constitution have it.
Settle = Callable[[Sequence[PrincipleVote]], Ruling]


def by_mean(votes: Sequence[PrincipleVote]) -> Ruling:
    """The mean of the votes by their weights."""
    return mean(votes, (), 0.0)


class Part(Record):
    """A principle's part in a pair's change. `before` and `after` are P(A) of its vote, None without one.

    `change` is what it adds to the change of P(A); a pair's parts add up to that change.
    """

    principle_id: str
    before: float | None
    after: float | None
    change: float


class PairEffect(Record):
    """One pair under both constitutions; P(A) is None where a side has no label, and `why` says why.

    `parts` is empty unless both sides have a label.
    """

    comparison: Comparison
    before: float | None
    after: float | None
    why: tuple[str, str] = ("", "")
    parts: tuple[Part, ...] = ()

    @property
    def change(self) -> float:
        """P(A) after minus before; 0 where a side has no label."""
        return 0.0 if self.before is None or self.after is None else self.after - self.before

    @property
    def flips(self) -> bool:
        """Whether P(A) crosses 0.5; a label of exactly 0.5 has no side to leave."""
        return self.before is not None and self.after is not None and _crosses(self.before, self.after)


class Movement(Record):
    """Flips and mean |change of P(A)| over some of the pairs."""

    name: str
    flipped: int
    flips: Estimate
    moved: Estimate


class Effect(Record):
    """The effect over all pairs. `all.flips.n` pairs have a label under both constitutions.

    `only_before`, `only_after` and `neither` count the others, `reasons` says why, by side. `by_principle`
    is of the changed principles' own votes where they vote under both; `by_tag` of the pairs on which a
    changed principle with that tag votes under either.
    """

    pairs: int
    all: Movement
    shift: Estimate
    only_before: int
    only_after: int
    neither: int
    reasons: tuple[tuple[str, str, int], ...]
    by_principle: tuple[Movement, ...]
    by_tag: tuple[Movement, ...]
    by_source: tuple[Movement, ...]
    movers: tuple[PairEffect, ...]


def pair_effect(
    comparison: Comparison,
    before: Side,
    after: Side,
    renamed: Mapping[str, str],
    settle: tuple[Settle, Settle] = (by_mean, by_mean),
) -> PairEffect:
    """A pair's labels under both sides, each its votes or why there are none; `settle` makes the labels.

    `renamed` maps first to second ids. A principle's part is its share in the ruling times (P(A) - 1/2)
    after, less the same before, so parts add up to the change, and a principle without an opinion has no
    part.
    """
    why = (before if isinstance(before, str) else "", after if isinstance(after, str) else "")
    ruled = tuple(
        None if isinstance(side, str) else rule(side)
        for side, rule in zip((before, after), settle, strict=True)
    )
    p = tuple(None if found is None else found.p_a for found in ruled)
    parts: tuple[Part, ...] = ()
    if not isinstance(before, str) and not isinstance(after, str):
        old = {renamed.get(v.principle_id, v.principle_id): v for v in before}
        new = {v.principle_id: v for v in after}
        old_push = {renamed.get(name, name): push for name, push in _pushes(before, ruled[0]).items()}
        new_push = _pushes(after, ruled[1])
        parts = tuple(
            Part(
                principle_id=name,
                before=old[name].p_a if name in old else None,
                after=new[name].p_a if name in new else None,
                change=new_push.get(name, 0.0) - old_push.get(name, 0.0),
            )
            for name in sorted(old.keys() | new.keys())
        )
    return PairEffect(comparison=comparison, before=p[0], after=p[1], why=why, parts=parts)


def effect_of(pairs: Sequence[PairEffect], changed: Mapping[str, Sequence[str]], *, seed: int = 0) -> Effect:
    """The effect over `pairs`; `changed` maps the second ids of changed principles to their tags.

    Intervals of means are percentile bootstraps over pairs, those of shares are Wilson's.
    """
    both = [pair for pair in pairs if pair.before is not None and pair.after is not None]

    def movement(name: str, values: Sequence[tuple[float, bool]]) -> Movement:
        flipped = sum(flip for _, flip in values)
        moved = mean_of([abs(change) for change, _ in values], seed)
        return Movement(name=name, flipped=flipped, flips=share_of(flipped, len(values)), moved=moved)

    def groups(names: Sequence[str], belongs: Callable[[PairEffect, str], bool]) -> tuple[Movement, ...]:
        chosen = ((name, [(p.change, p.flips) for p in both if belongs(p, name)]) for name in names)
        return tuple(movement(name, values) for name, values in chosen if values)

    own = {name: [v for pair in both for v in _own(pair, name)] for name in changed}
    tagged = {
        tag: {name for name in changed if tag in changed[name]} for tags in changed.values() for tag in tags
    }
    sources = sorted({pair.comparison.prompt.source for pair in both})
    ranked = sorted((pair for pair in both if pair.change), key=lambda p: (-abs(p.change), p.comparison.id))
    reasons = Counter((side, w) for p in pairs for side, w in zip("AB", p.why, strict=True) if w)
    return Effect(
        pairs=len(pairs),
        all=movement("all", [(pair.change, pair.flips) for pair in both]),
        shift=mean_of([pair.change for pair in both], seed),
        only_before=sum(p.before is not None and p.after is None for p in pairs),
        only_after=sum(p.before is None and p.after is not None for p in pairs),
        neither=sum(p.before is None and p.after is None for p in pairs),
        reasons=tuple(
            (side, why, n) for (side, why), n in sorted(reasons.items(), key=lambda r: (-r[1], r[0]))
        ),
        by_principle=tuple(movement(name, values) for name, values in own.items() if values),
        by_tag=groups(sorted(tagged), lambda p, tag: any(q.principle_id in tagged[tag] for q in p.parts)),
        by_source=groups(sources, lambda p, s: p.comparison.prompt.source == s) if len(sources) > 1 else (),
        movers=tuple(ranked[:MOVERS]),
    )


def largest_part(pair: PairEffect) -> Part | None:
    """The principle with most part in the pair's change, None where nothing changed."""
    best = max(pair.parts, key=lambda part: (abs(part.change), part.principle_id), default=None)
    return best if best is not None and best.change else None


def _own(pair: PairEffect, name: str) -> list[tuple[float, bool]]:
    return [
        (part.after - part.before, _crosses(part.before, part.after))
        for part in pair.parts
        if part.principle_id == name and part.before is not None and part.after is not None
    ]


def _pushes(votes: Sequence[PrincipleVote], ruled: Ruling | None) -> dict[str, float]:
    shares = {} if ruled is None else ruled.shares
    return {v.principle_id: shares.get(v.principle_id, 0.0) * (v.p_a - 0.5) for v in votes}


def _crosses(before: float, after: float) -> bool:
    return (before - 0.5) * (after - 0.5) < 0
