"""What a model's votes tell about a constitution: contradictions, copies, frail wordings, order bias.

Votes come as columns, one a principle: a place for each pair, holding P(A) in the order A B and in the
order B A (mapped back), or None where the pair has no vote. A principle decides a pair where
|2 P(A) - 1| reaches `Bounds.margin`, P(A) being the mean of both orders; at the margin of 0.5 that takes
both orders to prefer the same answer. Every share is given with its n and its 95 % Wilson interval, and a
warning needs evidence beyond the share: the interval, or a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from constitute.editing.attribute.alike import side
from constitute.editing.lint.findings import Finding, Severity
from constitute.stats import mean, mean_of, share_of, wilson
from constitute.types import Record

Vote = tuple[float, float]
Column = Sequence[Vote | None]
PARAPHRASES, LEAST_PARAPHRASES = 3, 2


class Bounds(Record):
    """Where a figure becomes a finding; all but `margin` and `level` are shares of pairs.

    `contradiction`, `redundant` and `correlation` are what the figure itself must reach; `redundant_low`,
    `correlation_low`, `apart_low`, `wording` and `order` are what the interval's end must exceed, `negation`
    what its upper end must stay under. `least` is the number of pairs that two principles must both decide
    to be compared, and that a warning about wordings, negation or order needs; `shared` is the number both
    must have a vote on for their correlation to count; a principle leans where |2 P(A) - 1| reaches `lean`.
    Below `mute`, a correlation says that the judge makes nothing of a wording. From `suspect` on, two
    principles are asked on more pairs; there, `apart` is the share on which one decides and the other leans
    the other way.
    """

    margin: float = 0.5
    level: float = 0.05
    least: int = 8
    contradiction: float = 0.75
    redundant: float = 0.95
    redundant_low: float = 0.7
    correlation: float = 0.7
    correlation_low: float = 0.5
    shared: int = 16
    lean: float = 0.1
    mute: float = 0.5
    suspect: float = 0.3
    apart: float = 0.9
    apart_low: float = 0.7
    wording: float = 0.1
    negation: float = 0.8
    order: float = 0.25


BOUNDS = Bounds()


def preferred(vote: Vote, margin: float = 0.0) -> int:
    """1 where A is preferred, -1 where B is, 0 where |2 P(A) - 1| is 0 or below `margin`."""
    lean = sum(vote) - 1.0
    # A small tolerance, so that P(A) of 0.6 reaches a margin of 0.2 in floating point.
    return side(lean) if abs(lean) >= margin - 1e-9 else 0


def decided(column: Column, margin: float) -> list[int]:
    """The places of the pairs that a principle decides."""
    return [at for at, vote in enumerate(column) if vote is not None and preferred(vote, margin)]


def lean_most(columns: Sequence[Column], n: int) -> list[int]:
    """The places of the `n` pairs on which principles lean most, added up over all of them."""
    leans = [
        sum(abs(sum(vote) - 1.0) for vote in votes if vote is not None)
        for votes in zip(*columns, strict=True)
    ]
    return sorted(sorted(range(len(leans)), key=lambda at: (-leans[at], at))[:n])


def weak_judge(
    votes: Mapping[str, Column], own: Mapping[str, Sequence[bool]], bounds: Bounds = BOUNDS
) -> tuple[list[Finding], set[str]]:
    """Warnings of what the judge does not understand, and the principles of which it says nothing.

    `own` says of each principle's examples whether its vote on it prefers the better answer. Where chance
    would do as well over all of them (the interval's lower end is 0.5 or less), or fewer than half of the
    principles decide `least` pairs, one warning is about the judge. Otherwise each principle that fails half
    or more of at least two examples has one.
    """
    right, n = sum(map(sum, own.values())), sum(map(len, own.values()))
    if n >= bounds.least and wilson(right, n)[0] <= 0.5:
        said = (
            f"this judge prefers the better answer on {share(right, n, 'examples of the principles')} which "
            "chance does too: it is too weak to tell whether principles contradict or repeat each other"
        )
        return [finding("warning", "judge-too-weak", "", said, _STRONGER, counted(right, n))], set(votes)
    failing = {name: each for name, each in own.items() if len(each) >= 2 and 2 * sum(each) <= len(each)}
    found = [_fails(name, each) for name, each in failing.items()]
    loud = sum(len(decided(column, bounds.margin)) >= bounds.least for column in votes.values())
    if len(votes) > 1 and 2 * loud < len(votes):
        said = (
            f"{loud} of {len(votes)} principles decide {bounds.least} pairs or more: this judge, or these "
            "pairs, are too weak to tell whether the others contradict or repeat each other"
        )
        found.append(finding("warning", "judge-too-weak", "", said, _STRONGER, counted(loud, len(votes))))
    return found, set(failing)


_STRONGER = (
    "use a stronger model, or another label.method (constitute judge compares them), or give examples and "
    "pairs on which the principles have something to say"
)


def _fails(name: str, own: Sequence[bool]) -> Finding:
    said = (
        f"the judge prefers the better answer on {share(sum(own), len(own), 'of its own examples')} so what "
        "it says of this principle is left out of the comparisons"
    )
    fix = "make the compare form say what the examples show, or use a stronger model"
    return finding("warning", "fails-examples", name, said, fix, counted(sum(own), len(own)))


def silence(name: str, column: Column, why: str = "", bounds: Bounds = BOUNDS) -> Finding | None:
    """A note where a principle decides none of the pairs, a warning where it has no vote at all."""
    voted = [vote for vote in column if vote is not None]
    if not voted:
        said = f"no pair could be labelled under it: {why or 'there are no pairs'}"
        fix = "see what the model answers, and lower label.min_mass only if A and B are what it says"
        return finding("warning", "never-decides", name, said, fix, {"n": 0, "decided": 0})
    if decided(column, bounds.margin):
        return None
    high = max(abs(sum(vote) - 1.0) for vote in voted)
    said = f"it decides none of {pairs_text(len(voted))}: |2 P(A) - 1| is at most {high:.2f}"
    fix = (
        "give pairs on which it has something to say, as probes of its own, or make its compare form concrete"
    )
    figure = {"n": len(voted), "decided": 0, "most": high, "margin": bounds.margin}
    return finding("note", "never-decides", name, said, fix, figure)


def order_bias(name: str, column: Column, bounds: Bounds = BOUNDS, seed: int = 0) -> Finding | None:
    """How often the two orders of a pair prefer different answers, among pairs that either order decides.

    A warning where the lower end of the interval exceeds `order` over `least` pairs or more, else a note;
    None without such pairs. The mean of P(what is shown first) is over all pairs voted on, with a bootstrap
    interval over pairs.
    """
    voted = [vote for vote in column if vote is not None]
    clear = [v for v in voted if any(preferred((p, p), bounds.margin) for p in v)]
    if not clear:
        return None
    differ = sum(preferred((p, p)) != preferred((q, q)) for p, q in clear)
    first = mean_of([(p_ab + 1.0 - p_ba) / 2 for p_ab, p_ba in voted], seed)
    said = (
        f"the two orders disagree on {share(differ, len(clear), 'pairs that either decides')} and "
        f"P(what is shown first) is {first.text(2)} on average"
    )
    bad = len(clear) >= bounds.least and wilson(differ, len(clear))[0] > bounds.order
    fix = (
        "labels average both orders, so these pairs end near 0.5 and teach little; name one thing to look "
        "for in the compare form, or label with a stronger model"
        if bad
        else ""
    )
    figure = counted(differ, len(clear)) | {
        "differ": differ,
        "first": first.value or 0.0,
        "first_low": first.low or 0.0,
        "first_high": first.high or 0.0,
        "first_n": first.n,
    }
    return finding("warning" if bad else "note", "order-bias", name, said, fix, figure)


def wording(
    name: str, column: Column, others: Sequence[Column], failed: int = 0, bounds: Bounds = BOUNDS
) -> Finding:
    """How many of the pairs a principle decides keep their label under all its paraphrases.

    Pairs it leaves open are left out: their label is a coin's whatever the wording. A warning where the
    lower end of the share of flips exceeds `wording` over `least` pairs or more, else a note; `failed`
    paraphrases could not be used.
    """
    lost = f"; {failed} of the model's answers could not be used" if failed else ""
    counts: dict[str, float] = {"paraphrases": len(others), "failed": failed}
    if len(others) < LEAST_PARAPHRASES:
        said = (
            f"only {len(others)} of {PARAPHRASES} other wordings could be made{lost}: stability is not known"
        )
        fix = "name a model that can say a sentence in other words"
        return finding("note", "wording-unstable", name, said, fix, counts | {"n": 0})
    shown = [at for at in decided(column, bounds.margin) if all(other[at] is not None for other in others)]
    kept = [[_known(column[at]), *(_known(other[at]) for other in others)] for at in shown]
    flipped = sum(len({preferred(vote) for vote in row}) > 1 for row in kept)
    moved = [abs(sum(vote) - sum(row[0])) / 2 for row in kept for vote in row[1:]]
    change = mean(moved) if moved else 0.0
    said = (
        f"{share(flipped, len(kept), 'decided pairs')} change their label under {len(others)} other "
        f"wordings, P(A) moves by {change:.2f} on average{lost}"
    )
    bad = len(kept) >= bounds.least and wilson(flipped, len(kept))[0] > bounds.wording
    fix = (
        "the words decide, not what they mean: make the compare form shorter and more concrete" if bad else ""
    )
    figure = counts | counted(flipped, len(kept)) | {"mean_change": change}
    return finding("warning" if bad else "note", "wording-unstable", name, said, fix, figure)


def negation(name: str, column: Column, negated: Column, bounds: Bounds = BOUNDS) -> Finding:
    """How many of the pairs a principle decides turn round with it.

    A warning where even the upper end of the interval is below `negation` over `least` pairs or more, else a
    note.
    """
    kept = [at for at in decided(column, bounds.margin) if negated[at] is not None]
    turned = sum(preferred(_known(negated[at])) == -preferred(_known(column[at])) for at in kept)
    said = f"{share(turned, len(kept), 'decided pairs')} turn round when the principle is negated"
    bad = len(kept) >= bounds.least and wilson(turned, len(kept))[1] < bounds.negation
    fix = (
        "the model answers by something else than what the principle says: put the thing to look for "
        "into the compare form, or label with a stronger model"
        if bad
        else ""
    )
    severity: Severity = "warning" if bad else "note"
    return finding(severity, "negation-blind", name, said, fix, counted(turned, len(kept)))


def finding(
    severity: Severity, rule: str, principle: str, message: str, fix: str, figure: dict[str, float]
) -> Finding:
    """A finding without its place, which is for those who know the file."""
    return Finding(severity=severity, rule=rule, principle=principle, message=message, fix=fix, figure=figure)


def counted(count: int, n: int) -> dict[str, float]:
    low, high = wilson(count, n)
    return {"n": n, "count": count, "low": low, "high": high} | ({"share": count / n} if n else {})


def share(count: int, n: int, what: str) -> str:
    """`24 of 26 pairs that both decide, a share of 0.92 (0.76 to 0.98, n = 26),`."""
    return f"{count} of {n} {what}, a share of {share_of(count, n).text(2)}," if n else f"0 of 0 {what}"


def pairs_text(n: int) -> str:
    return "the 1 pair" if n == 1 else f"the {n} pairs"


def _known(vote: Vote | None) -> Vote:
    assert vote is not None, "pairs without a vote were left out before"
    return vote
