"""Compare policies with the first, item by item; p takes the number of comparisons into account."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.errors import UsageError
from constitute.evals.families.base import ItemScore
from constitute.evals.figures import part_names
from constitute.evals.policies import Policy, find_policies
from constitute.evals.run import SetResult, thin_warning
from constitute.significance import Equivalence, clustered_mean_of, equivalence, sign_flip_p
from constitute.stats import Estimate, holm, mcnemar_exact, mean
from constitute.text import csv_cell
from constitute.types import Record


class Paired(Record):
    """Second minus first policy on the items both have a score for.

    `share` is the difference in share matching and `p_matching` that in mean P(matching), each with a
    paired bootstrap interval over the `clusters`, contexts or single items; `only_first` and `only_second`
    count the items on which just one matches; `p` is McNemar's exact two-sided p, or that of sign flips where
    items share contexts, `p_holm` the same after Holm's correction over all that is compared together.
    `equal` tests that the share changes by less than a margin, None where there are too few clusters. `part`
    is the part of the set that the items are of, empty for the whole set; `n_left_out` counts the set's items
    that not both have a score for, None for a part, whose size is not known.
    """

    set: str
    part: str = ""
    first: str
    second: str
    n_left_out: int | None
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
        small = self.equal is not None and self.equal.holds
        if self.p_holm < 0.05:
            way = "more" if (self.share.value or 0) > 0 else "less"
            size = f", by less than {self.equal.margin:g}" if small and self.equal else ""
            said = f"{self.second} matches {way} often{size}: {change}"
        elif small and self.equal:
            said = f"no change of {self.equal.margin:g} or more: {change}"
        else:
            said = f"no change is shown, and none is excluded: {change}"
        if self.n_left_out:
            said += f"; {self.share.n} of {self.share.n + self.n_left_out} items have a score of both"
        return said

    @property
    def where(self) -> str:
        """The set, and the part of it."""
        return f"{self.set}, {self.part}" if self.part else self.set


# Columns of the CSV.
_COLUMNS = (
    *("set", "part", "first", "second", "n", "n_left_out", "clusters", "only_first", "only_second"),
    *("share_first", "share_second", "change", "change_low", "change_high"),
    *("change_p", "change_p_low", "change_p_high", "p", "p_holm", "margin", "p_equal", "sentence"),
)
# The scores of two policies on one item.
_Both = tuple[ItemScore, ItemScore]


def pair_results(config: RunConfig, *given: str) -> list[tuple[SetResult, SetResult]]:
    """The results of `given` in a run, or files, to be compared: `pairs_of` what `find_policies` finds."""
    return pairs_of(find_policies([config], given))


def pairs_of(policies: Sequence[Policy]) -> list[tuple[SetResult, SetResult]]:
    """The first policy's result beside that of each other one, set by set.

    A set is known by its name, or by its items where it goes by another name. Raises `UsageError` where a
    policy shares no set with the first.
    """
    if len(policies) < 2:
        only = f" ({policies[0].name})" if policies else ""
        raise UsageError(f"there is one policy alone{only} and nothing to compare it with; score another")
    first, *others = policies
    pairs = []
    for other in others:
        found = [(own, r) for r in other.results.values() if (own := _same_set(first, r)) is not None]
        if not found:
            raise UsageError(
                f"{first.name!r} and {other.name!r} were scored on no set in common; "
                "run both on the same sets"
            )
        pairs += found
    order = {name: at for at, name in enumerate(first.results)}
    return sorted(pairs, key=lambda pair: order[pair[0].set])


def _same_set(policy: Policy, result: SetResult) -> SetResult | None:
    by_hash = {own.items_hash: own for own in policy.results.values()}
    return policy.results.get(result.set) or by_hash.get(result.items_hash)


def left_alone(policies: Sequence[Policy]) -> list[str]:
    """Which sets some of the policies have and others lack, a sentence each."""
    sets = {r.set: r.items_hash for policy in policies for r in policy.results.values()}
    said = []
    for name, digest in sets.items():
        lacking = [
            policy.name
            for policy in policies
            if name not in policy.results
            and all(result.items_hash != digest for result in policy.results.values())
        ]
        if lacking:
            said.append(f"{name}: not scored for {', '.join(lacking)}, so not compared there")
    return said


def asked_otherwise(pairs: Sequence[tuple[SetResult, SetResult]]) -> list[str]:
    """Which pairs were asked in two ways or read by two readers, a sentence each.

    Raises `UsageError` where one was rated by a scorer and the other was not.
    """
    said = []
    for first, second in pairs:
        if first.read_by.get("scorer") != second.read_by.get("scorer"):
            raise UsageError(
                f"{first.set}: {first.policy} and {second.policy} were not rated by the same scorer, so "
                "their scores cannot be compared; score both in one way"
            )
        own, other = _way(first), _way(second)
        keys = [key for key in own if key in other and own[key] != other[key]]
        if keys:
            ways = ", ".join(f"{key} {own[key]!r} and {other[key]!r}" for key in keys)
            said.append(
                f"{first.set}: {first.policy} and {second.policy} were asked in two ways ({ways}), so a "
                "change may come from that"
            )
    return said


def thin_ones(pairs: Sequence[tuple[SetResult, SetResult]], cfg: EvalsConfig) -> list[str]:
    """The warnings of results whose scores rest on little probability, each once."""
    warned = (thin_warning(result, cfg) for pair in pairs for result in pair)
    return list(dict.fromkeys(said for said in warned if said))


def _way(result: SetResult) -> dict[str, object]:
    """How a result was asked and by whom it was read; empty for what an older file does not say."""
    readers = {role: model.get("name") for role, model in result.read_by.items() if isinstance(model, dict)}
    return {**result.asked, "condition": result.condition, **readers}


def compare_sets(pairs: Sequence[tuple[SetResult, SetResult]], cfg: EvalsConfig) -> list[Paired]:
    """Compare each pair of results on its whole set. Raises `UsageError` where one is not on the same items.

    `p_holm` is corrected for all of these pairs.
    """
    return _corrected([_paired(first, second, _common(first, second), cfg) for first, second in pairs])


def compare_parts(pairs: Sequence[tuple[SetResult, SetResult]], cfg: EvalsConfig) -> list[Paired]:
    """The same in each part of the sets that holds some of the items and not all; empty without parts.

    Parts say where a change lies. They are a second question, so `p_holm` is corrected for all parts of all
    pairs, and not for the whole sets.
    """
    found = []
    for first, second in pairs:
        common = _common(first, second)
        held: dict[str, list[_Both]] = {}
        for both in common:
            for part in part_names(both[1].groups or both[0].groups):
                held.setdefault(part, []).append(both)
        found += [
            _paired(first, second, some, cfg, part)
            for part, some in sorted(held.items())
            if len(some) < len(common)
        ]
    return _corrected(found)


def _corrected(compared: Sequence[Paired]) -> list[Paired]:
    adjusted = holm([result.p for result in compared])
    return [r.model_copy(update={"p_holm": p}) for r, p in zip(compared, adjusted, strict=True)]


def _common(first: SetResult, second: SetResult) -> list[_Both]:
    """The scores of both on each item that both have one for."""
    if first.items_hash != second.items_hash:
        raise UsageError(
            f"{first.policy} was scored on other items of {first.set!r} than {second.policy} "
            f"({first.items_hash} and {second.items_hash}); run both on the same file"
        )
    own = {score.id: score for score in first.scores}
    common = [(own[score.id], score) for score in second.scores if score.id in own]
    if not common:
        raise UsageError(f"{first.policy} and {second.policy} share no scored item of {first.set!r}")
    return common


def _paired(
    first: SetResult, second: SetResult, common: Sequence[_Both], cfg: EvalsConfig, part: str = ""
) -> Paired:
    hits = [float(b.matching) - float(a.matching) for a, b in common]
    only_first, only_second = hits.count(-1.0), hits.count(1.0)
    clusters = [b.context or f"item {b.id}" for _, b in common]
    alone = len(set(clusters)) == len(clusters)
    where = f"{first.set} {part}".rstrip()
    seeds = f"share {where}", f"p {where}"
    moved = {
        b.id: b.p_matching - a.p_matching
        for a, b in common
        if a.p_matching is not None and b.p_matching is not None
    }
    measured = [cluster for (_, b), cluster in zip(common, clusters, strict=True) if b.id in moved]
    p = mcnemar_exact(only_first, only_second) if alone else sign_flip_p(hits, clusters, seeds[0])
    return Paired(
        set=first.set,
        part=part,
        first=first.policy,
        second=second.policy,
        n_left_out=None if part else first.share.n + first.n_unparsed - len(common),
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


def as_csv(compared: Sequence[Paired]) -> str:
    """A row a comparison, with every figure of it; an empty cell is what is not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in compared:
        names = [csv_cell(text) for text in (one.set, one.part, one.first, one.second)]
        counts = [one.share.n, one.n_left_out, one.clusters, one.only_first, one.only_second]
        changes = [x for e in (one.share, one.p_matching) for x in (e.value, e.low, e.high)]
        equal = (one.equal.margin, one.equal.p) if one.equal else (None, None)
        figures = [one.share_first, one.share_second, *changes, one.p, one.p_holm, *equal]
        shown = ["" if x is None else repr(x) for x in figures]
        writer.writerow([*names, *counts, *shown, csv_cell(one.sentence)])
    return out.getvalue()
