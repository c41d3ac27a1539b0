"""Compare two policies on the same items, in pairs, with the number of sets taken into account."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.errors import UsageError
from constitute.evals.items import evals_dir
from constitute.evals.run import SetResult, load_result, load_results, policy_name
from constitute.significance import Equivalence, clustered_mean_of, equivalence, sign_flip_p
from constitute.stats import Estimate, holm, mcnemar_exact, mean
from constitute.types import Record


class Paired(Record):
    """Second minus first policy on the items both have a score for.

    `share` is the difference in share matching and `p_matching` that in mean P(matching), each with a
    paired bootstrap interval over the `clusters`, contexts or single items; `only_first` and `only_second`
    count the items on which just one matches; `p` is McNemar's exact two-sided p, or that of sign flips where
    items share contexts, `p_holm` the same after Holm's correction over the sets compared. `equal` tests that
    the share changes by less than a margin, None where there are too few clusters.
    """

    set: str
    first: str
    second: str
    n_left_out: int
    share_first: float
    share_second: float
    share: Estimate
    p_matching: Estimate
    only_first: int
    only_second: int
    p: float
    p_holm: float
    clusters: int
    equal: Equivalence | None

    @property
    def sentence(self) -> str:
        """What the comparison shows, in words."""
        change = self.share.text(3)
        if self.p_holm < 0.05:
            return (
                f"{self.second} matches {'more' if (self.share.value or 0) > 0 else 'less'} often: {change}"
            )
        if self.equal is not None and self.equal.holds:
            return f"no change of {self.equal.margin:g} or more: {change}"
        return f"no change is shown, and none is excluded: {change}"


def pair_results(config: RunConfig, first: str, second: str) -> list[tuple[SetResult, SetResult]]:
    """Results to compare: two result files, or two policies of a run on every set that both were scored on.

    A policy is given by its name, by the model that was scored, or as `base`, the run's own model. Raises
    `UsageError` where there is no such file or policy, or no set in common.
    """
    if first.endswith(".json") and second.endswith(".json"):
        return [(load_result(Path(first)), load_result(Path(second)))]
    found = load_results(config.run)
    names = [_policy(config, found, given) for given in (first, second)]
    own = {result.set: result for result in found if result.policy == names[0]}
    pairs = [(own[r.set], r) for r in found if r.policy == names[1] and r.set in own]
    if not pairs:
        raise UsageError(
            f"{first!r} and {second!r} were scored on no set in common; run both on the same sets"
        )
    return pairs


def _policy(config: RunConfig, found: Sequence[SetResult], given: str) -> str:
    """The name of the policy that is meant."""
    models = {result.policy: str(result.model.get("name", "")) for result in found}
    meant = [given, policy_name(given, config.run)]
    meant += [policy for policy, model in models.items() if model == given]
    if given == "base" and config.model is not None:
        meant.append(policy_name(config.model, config.run))
    for name in meant:
        if name in models:
            return name
    known = ", ".join(f"{policy} (model {model})" for policy, model in sorted(models.items())) or "none"
    raise UsageError(
        f"no results of policy {given!r} in {evals_dir(config.run) / 'results'}; known: {known}; "
        f"score it with `constitute evals run --run {config.run} --model MODEL --policy {given}`"
    )


def compare_sets(pairs: Sequence[tuple[SetResult, SetResult]], cfg: EvalsConfig) -> list[Paired]:
    """Compare each pair of results on one set. Raises `UsageError` where a pair is not on the same items."""
    compared = [_compare(first, second, cfg) for first, second in pairs]
    adjusted = holm([result.p for result in compared])
    return [r.model_copy(update={"p_holm": p}) for r, p in zip(compared, adjusted, strict=True)]


def _compare(first: SetResult, second: SetResult, cfg: EvalsConfig) -> Paired:
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
    only_first, only_second = hits.count(-1.0), hits.count(1.0)
    clusters = [b.context or f"item {b.id}" for _, b in common]
    alone = len(set(clusters)) == len(clusters)
    seeds = f"share {first.set}", f"p {first.set}"
    moved = {
        b.id: b.p_matching - a.p_matching
        for a, b in common
        if a.p_matching is not None and b.p_matching is not None
    }
    measured = [cluster for (_, b), cluster in zip(common, clusters, strict=True) if b.id in moved]
    p = mcnemar_exact(only_first, only_second) if alone else sign_flip_p(hits, clusters, seeds[0])
    return Paired(
        set=first.set,
        first=first.policy,
        second=second.policy,
        n_left_out=first.share.n + first.n_unparsed - len(common),
        share_first=mean([float(a.matching) for a, _ in common]),
        share_second=mean([float(b.matching) for _, b in common]),
        share=clustered_mean_of(hits, clusters, seeds[0], cfg.resamples),
        p_matching=clustered_mean_of(list(moved.values()), measured, seeds[1], cfg.resamples),
        only_first=only_first,
        only_second=only_second,
        p=p,
        p_holm=p,
        clusters=len(set(clusters)),
        equal=equivalence(hits, clusters, cfg.margin),
    )
