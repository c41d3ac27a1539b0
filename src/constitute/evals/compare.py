"""Compare two policies on the same items, in pairs, with the number of sets taken into account."""

from __future__ import annotations

import random
from collections.abc import Sequence

from constitute.errors import UsageError
from constitute.evals.sets import SetResult
from constitute.stats import bootstrap_mean, holm, mcnemar_exact, mean
from constitute.types import Record


class Paired(Record):
    """Second minus first policy on the items both have a score for.

    `share` is the difference in share matching and `p_matching` that in mean P(matching), each with a
    paired bootstrap interval; `only_first` and `only_second` count the items on which just one matches;
    `p` is McNemar's exact two-sided p, `p_holm` the same after Holm's correction over the sets compared.
    """

    set: str
    first: str
    second: str
    n: int
    n_left_out: int
    share_first: float
    share_second: float
    share: float
    share_low: float
    share_high: float
    p_matching: float
    p_matching_low: float
    p_matching_high: float
    only_first: int
    only_second: int
    p: float
    p_holm: float


def compare_sets(pairs: Sequence[tuple[SetResult, SetResult]], resamples: int) -> list[Paired]:
    """Compare each pair of results on one set. Raises `UsageError` where a pair is not on the same items."""
    compared = [_compare(first, second, resamples) for first, second in pairs]
    adjusted = holm([result.p for result in compared])
    return [r.model_copy(update={"p_holm": p}) for r, p in zip(compared, adjusted, strict=True)]


def _compare(first: SetResult, second: SetResult, resamples: int) -> Paired:
    if first.items_hash != second.items_hash:
        raise UsageError(
            f"{first.policy} was scored on other items of {first.set!r} than {second.policy} "
            f"({first.items_hash} and {second.items_hash}); run both on the same file"
        )
    own = {score.id: score for score in first.scores}
    common = [(own[score.id], score) for score in second.scores if score.id in own]
    if not common:
        raise UsageError(f"{first.policy} and {second.policy} share no scored item of {first.set!r}")
    hits = [float(b.matching) - float(a.matching) for a, b in common]
    ps = [b.p_matching - a.p_matching for a, b in common]
    only_first, only_second = hits.count(-1.0), hits.count(1.0)
    share_low, share_high = bootstrap_mean(hits, random.Random(f"share {first.set}"), resamples)
    p_low, p_high = bootstrap_mean(ps, random.Random(f"p {first.set}"), resamples)
    p = mcnemar_exact(only_first, only_second)
    total = first.share.n + first.share.n_unparsed
    return Paired(
        set=first.set,
        first=first.policy,
        second=second.policy,
        n=len(common),
        n_left_out=total - len(common),
        share_first=mean([float(a.matching) for a, _ in common]),
        share_second=mean([float(b.matching) for _, b in common]),
        share=mean(hits),
        share_low=share_low,
        share_high=share_high,
        p_matching=mean(ps),
        p_matching_low=p_low,
        p_matching_high=p_high,
        only_first=only_first,
        only_second=only_second,
        p=p,
        p_holm=p,
    )
