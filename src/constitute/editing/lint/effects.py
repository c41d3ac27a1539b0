"""What a model's votes tell about a constitution: contradictions, copies, frail wordings, order bias.

Votes come as columns, one a principle: a place for each pair, holding P(A) in the order A B and in the
order B A (mapped back), or None where the pair has no vote. A principle decides a pair where
|2 P(A) - 1| reaches `Bounds.margin`, P(A) being the mean of both orders; at the margin of 0.5 that takes
both orders to prefer the same answer. Every share is given with its n and its 95 % Wilson interval, and a
warning needs evidence beyond the share: the interval, or a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from constitute.editing.attribute.alike import side
from constitute.editing.lint.findings import Finding, Severity
from constitute.stats import correlation, holm, mcnemar_exact, mean, mean_of, share_of, wilson
from constitute.types import Record

Vote = tuple[float, float]
Column = Sequence[Vote | None]
PARAPHRASES, LEAST_PARAPHRASES = 3, 2


class Bounds(Record):
    """Where a figure becomes a finding; all but `margin` and `level` are shares of pairs.

    `contradiction`, `redundant` and `correlation` are what the figure itself must reach; `redundant_low`,
    `wording` and `order` are what the interval's lower end must exceed, `negation` what its upper end must
    stay under. `least` is the number of pairs that two principles must both decide to be compared.
    """

    margin: float = 0.5
    level: float = 0.05
    least: int = 8
    contradiction: float = 0.75
    redundant: float = 0.95
    redundant_low: float = 0.7
    correlation: float = 0.7
    wording: float = 0.1
    negation: float = 0.8
    order: float = 0.25


BOUNDS = Bounds()


class Between(Record):
    """How two principles vote: `opposite` of the `n` pairs both decide, and r of P(A) over all they share.

    `correlation` is None where either never varies.
    """

    first: str
    second: str
    n: int
    opposite: int
    correlation: float | None


def preferred(vote: Vote, margin: float = 0.0) -> int:
    """1 where A is preferred, -1 where B is, 0 where |2 P(A) - 1| is 0 or below `margin`."""
    lean = sum(vote) - 1.0
    # A small tolerance, so that P(A) of 0.6 reaches a margin of 0.2 in floating point.
    return side(lean) if abs(lean) >= margin - 1e-9 else 0


def decided(column: Column, margin: float) -> list[int]:
    """The places of the pairs that a principle decides."""
    return [at for at, vote in enumerate(column) if vote is not None and preferred(vote, margin)]


def between(votes: Mapping[str, Column], margin: float) -> list[Between]:
    """Every two principles, in the order given."""
    return [_between(a, b, votes[a], votes[b], margin) for a, b in combinations(votes, 2)]


def contradictions(votes: Mapping[str, Column], bounds: Bounds = BOUNDS) -> list[Finding]:
    """Two principles that pull the same pairs opposite ways: a warning for each such two.

    Of at least `least` pairs that both decide they are opposite on a share of `contradiction` or more, and
    a sign test against 1/2 (exact, two-sided; Holm over all principles so compared) is under `level`.
    """
    tested = [row for row in between(votes, bounds.margin) if row.n >= bounds.least]
    p_values = holm([mcnemar_exact(row.opposite, row.n - row.opposite) for row in tested])
    return [
        _contradiction(row, p)
        for row, p in zip(tested, p_values, strict=True)
        if row.opposite >= bounds.contradiction * row.n and p < bounds.level
    ]


def redundancies(votes: Mapping[str, Column], bounds: Bounds = BOUNDS) -> list[Finding]:
    """Principles that cast the same votes: one warning a group.

    Two are alike where they agree on a share of `redundant` or more of the pairs both decide, the lower
    end of its interval exceeds `redundant_low`, and P(A) correlates by `correlation` or more. Groups are
    the connected sets: each member is like another, and the least alike two are named in figures.
    """
    rows = between(votes, bounds.margin)
    group = {name: name for name in votes}
    for row in rows:
        if _alike(row, bounds):
            kept, gone = group[row.first], group[row.second]
            group = {name: kept if root == gone else root for name, root in group.items()}
    members = {root: [name for name in votes if group[name] == root] for root in votes}
    return [
        _redundancy(names, [row for row in rows if row.first in names and row.second in names])
        for names in members.values()
        if len(names) > 1
    ]


def silence(name: str, column: Column, why: str = "", bounds: Bounds = BOUNDS) -> Finding | None:
    """A note where a principle decides none of the pairs, a warning where it has no vote at all."""
    voted = [vote for vote in column if vote is not None]
    if not voted:
        said = f"no pair could be labelled under it: {why or 'there are no pairs'}"
        fix = "see what the model answers, and lower label.min_mass only if A and B are what it says"
        return _finding("warning", "never-decides", name, said, fix, {"n": 0, "decided": 0})
    if decided(column, bounds.margin):
        return None
    high = max(abs(sum(vote) - 1.0) for vote in voted)
    said = f"it decides none of {_pairs(len(voted))}: |2 P(A) - 1| is at most {high:.2f}"
    fix = (
        "give pairs on which it has something to say, as probes of its own, or make its compare form concrete"
    )
    figure = {"n": len(voted), "decided": 0, "most": high, "margin": bounds.margin}
    return _finding("note", "never-decides", name, said, fix, figure)


def order_bias(name: str, column: Column, bounds: Bounds = BOUNDS, seed: int = 0) -> Finding | None:
    """How often the two orders of a pair prefer different answers, among pairs that either order decides.

    A warning where the lower end of the interval exceeds `order`, else a note; None without such pairs. The
    mean of P(what is shown first) is over all pairs voted on, with a bootstrap interval over pairs.
    """
    voted = [vote for vote in column if vote is not None]
    clear = [v for v in voted if any(preferred((p, p), bounds.margin) for p in v)]
    if not clear:
        return None
    differ = sum(preferred((p, p)) != preferred((q, q)) for p, q in clear)
    first = mean_of([(p_ab + 1.0 - p_ba) / 2 for p_ab, p_ba in voted], seed)
    said = (
        f"the two orders disagree on {_share(differ, len(clear), 'pairs that either decides')} and "
        f"P(what is shown first) is {first.text(2)} on average"
    )
    bad = wilson(differ, len(clear))[0] > bounds.order
    fix = (
        "labels average both orders, so these pairs end near 0.5 and teach little; name one thing to look "
        "for in the compare form, or label with a stronger model"
        if bad
        else ""
    )
    figure = _figure(differ, len(clear)) | {
        "differ": differ,
        "first": first.value or 0.0,
        "first_low": first.low or 0.0,
        "first_high": first.high or 0.0,
        "first_n": first.n,
    }
    return _finding("warning" if bad else "note", "order-bias", name, said, fix, figure)


def wording(
    name: str, column: Column, others: Sequence[Column], failed: int = 0, bounds: Bounds = BOUNDS
) -> Finding:
    """How many of the pairs a principle decides keep their label under all its paraphrases.

    Pairs it leaves open are left out: their label is a coin's whatever the wording. A warning where the
    lower end of the share of flips exceeds `wording`, else a note; `failed` paraphrases could not be used.
    """
    lost = f"; {failed} of the model's answers could not be used" if failed else ""
    counts: dict[str, float] = {"paraphrases": len(others), "failed": failed}
    if len(others) < LEAST_PARAPHRASES:
        said = (
            f"only {len(others)} of {PARAPHRASES} other wordings could be made{lost}: stability is not known"
        )
        fix = "name a model that can say a sentence in other words"
        return _finding("note", "wording-unstable", name, said, fix, counts | {"n": 0})
    shown = [at for at in decided(column, bounds.margin) if all(other[at] is not None for other in others)]
    kept = [[_known(column[at]), *(_known(other[at]) for other in others)] for at in shown]
    flipped = sum(len({preferred(vote) for vote in row}) > 1 for row in kept)
    moved = [abs(sum(vote) - sum(row[0])) / 2 for row in kept for vote in row[1:]]
    change = mean(moved) if moved else 0.0
    said = (
        f"{_share(flipped, len(kept), 'decided pairs')} change their label under {len(others)} other "
        f"wordings, P(A) moves by {change:.2f} on average{lost}"
    )
    bad = wilson(flipped, len(kept))[0] > bounds.wording
    fix = (
        "the words decide, not what they mean: make the compare form shorter and more concrete" if bad else ""
    )
    figure = counts | _figure(flipped, len(kept)) | {"mean_change": change}
    return _finding("warning" if bad else "note", "wording-unstable", name, said, fix, figure)


def negation(name: str, column: Column, negated: Column, bounds: Bounds = BOUNDS) -> Finding:
    """How many of the pairs a principle decides turn round with it.

    A warning where even the upper end of the interval is below `negation`, else a note.
    """
    kept = [at for at in decided(column, bounds.margin) if negated[at] is not None]
    turned = sum(preferred(_known(negated[at])) == -preferred(_known(column[at])) for at in kept)
    said = f"{_share(turned, len(kept), 'decided pairs')} turn round when the principle is negated"
    bad = wilson(turned, len(kept))[1] < bounds.negation
    fix = (
        "the model answers by something else than what the principle says: put the thing to look for "
        "into the compare form, or label with a stronger model"
        if bad
        else ""
    )
    severity: Severity = "warning" if bad else "note"
    return _finding(severity, "negation-blind", name, said, fix, _figure(turned, len(kept)))


def _between(a: str, b: str, first: Column, second: Column, margin: float) -> Between:
    both = [(x, y) for x, y in zip(first, second, strict=True) if x is not None and y is not None]
    sides = [(preferred(x, margin), preferred(y, margin)) for x, y in both]
    clear = [s * t for s, t in sides if s and t]
    r = correlation([sum(x) / 2 for x, _ in both], [sum(y) / 2 for _, y in both])
    return Between(first=a, second=b, n=len(clear), opposite=clear.count(-1), correlation=r)


def _alike(row: Between, bounds: Bounds) -> bool:
    same = row.n - row.opposite
    if not row.n or row.correlation is None or row.correlation < bounds.correlation:
        return False
    return same >= bounds.redundant * row.n and wilson(same, row.n)[0] > bounds.redundant_low


def _contradiction(row: Between, p: float) -> Finding:
    said = (
        f"{row.first} and {row.second} pull opposite ways on "
        f"{_share(row.opposite, row.n, 'pairs that both decide')} Holm-adjusted p {p:.2g}"
    )
    fix = "say in one of them when it yields to the other, or remove one"
    figure = _figure(row.opposite, row.n) | {"p": p}
    return _finding("warning", "contradiction", row.first, said, fix, figure)


def _redundancy(names: Sequence[str], rows: Sequence[Between]) -> Finding:
    weakest = min(rows, key=lambda row: (1 - row.opposite / row.n if row.n else 0.0, row.n))
    same = weakest.n - weakest.opposite
    least = min(row.correlation if row.correlation is not None else 0.0 for row in rows)
    said = (
        f"{', '.join(names[:-1])} and {names[-1]} cast the same votes: the least alike two agree on "
        f"{_share(same, weakest.n, 'pairs that both decide')} lowest correlation {least:.2f}"
    )
    fix = f"keep the clearest, or let their weights add up to one's: together they count {len(names)} times"
    figure = _figure(same, weakest.n) | {"correlation": least, "size": len(names)}
    return _finding("warning", "redundant", names[0], said, fix, figure)


def _finding(
    severity: Severity, rule: str, principle: str, message: str, fix: str, figure: dict[str, float]
) -> Finding:
    """A finding without its place, which is for those who know the file."""
    return Finding(severity=severity, rule=rule, principle=principle, message=message, fix=fix, figure=figure)


def _figure(count: int, n: int) -> dict[str, float]:
    low, high = wilson(count, n)
    return {"n": n, "count": count, "low": low, "high": high} | ({"share": count / n} if n else {})


def _share(count: int, n: int, what: str) -> str:
    """`24 of 26 pairs that both decide, a share of 0.92 (0.76 to 0.98, n = 26),`."""
    return f"{count} of {n} {what}, a share of {share_of(count, n).text(2)}," if n else f"0 of 0 {what}"


def _pairs(n: int) -> str:
    return "the 1 pair" if n == 1 else f"the {n} pairs"


def _known(vote: Vote | None) -> Vote:
    assert vote is not None, "pairs without a vote were left out before"
    return vote
