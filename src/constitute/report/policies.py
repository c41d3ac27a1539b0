"""What each policy does on held-out prompts and eval sets, beside what the first one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from constitute.evals.run import SetResult
from constitute.report.charts import Mark, Trace
from constitute.report.training import Figure, figure_of
from constitute.significance import clustered_mean_of
from constitute.stats import Estimate, correlation, difference_of, share_of
from constitute.types import Record

_RESAMPLES = 1000
POLICIES = ("base", "sft", "ppo", "grpo")
# Which way is better, of what is measured in the demo (`pocket.measure`); anything else is not judged.
_BETTER = {
    "helpful": 1,
    "harmful": -1,
    "evasive": -1,
    "preachy": -1,
    "rude": -1,
    "verbose": -1,
    "garbled": -1,
}
_HELP = "helpful"
# Lines in one drawing that can be told apart.
_DRAWN = 4
Tone = Literal["better", "worse", "moved", "same"]


class Shift(Record):
    """A policy's figure minus that of the policy before: `same` where the interval holds 0.

    `moved` where it does not, and nobody said which way is better.
    """

    difference: Estimate
    tone: Tone


@dataclass(frozen=True)
class Axis:
    """One thing measured of the policies, in their order; shifts are against the first of them."""

    name: str
    percent: bool
    figures: tuple[Figure, ...]
    shifts: tuple[Shift | None, ...]


@dataclass(frozen=True)
class Policies:
    """Names of the policies, and what was measured of them."""

    names: tuple[str, ...]
    axes: tuple[Axis, ...]


def policies_of(summary: Mapping[str, Any]) -> Policies:
    """From `policies` (shares by axis) and `words` (a mean) of summary.json."""
    shares = {
        name: found for name, found in _mapping(summary, "policies").items() if isinstance(found, Mapping)
    }
    words = _mapping(summary, "words")
    names = tuple(sorted({*shares, *words}, key=rank))
    axes = dict.fromkeys(axis for name in names for axis in shares.get(name, {}))
    found = [
        _axis(axis, True, [figure_of(shares.get(name, {}).get(axis)) for name in names]) for axis in axes
    ]
    if words:
        found.append(_axis("words in an answer", False, [figure_of(words.get(name)) for name in names]))
    return Policies(names, tuple(axis for axis in found if any(one is not None for one in axis.figures)))


def traces_of(policies: Policies) -> tuple[Trace, ...]:
    """What to draw over the policies: help, and the axes that moved furthest; none where there is one policy.

    An axis without an interval for some policy is left to the table.
    """
    if len(policies.names) < 2:
        return ()
    found = []
    for axis in policies.axes:
        known = [one for one in axis.figures if isinstance(one, Estimate) and one.low is not None]
        if axis.percent and len(known) == len(policies.names):
            values = [one.value or 0.0 for one in known]
            found.append((axis.name != _HELP, min(values) - max(values), axis.name, known))
    found.sort(key=lambda one: one[:2])
    return tuple(
        Trace(
            name=name, marks=tuple(_mark(at, name, policies.names[at], one) for at, one in enumerate(known))
        )
        for _, _, name, known in found[:_DRAWN]
    )


def _mark(at: int, axis: str, policy: str, one: Estimate) -> Mark:
    value, low, high = one.value or 0.0, one.low or 0.0, one.high or 0.0
    return Mark(x=at, y=value, low=low, high=high, label=f"{axis}, {policy}: {one.text(1, percent=True)}")


def rank(name: str) -> tuple[int, str]:
    """The order of policies: base, sft, ppo, grpo and then by name."""
    return (POLICIES.index(name) if name in POLICIES else len(POLICIES), name)


def shift_of(axis: str, before: Figure, after: Figure) -> Shift | None:
    """How a figure of `axis` moved; None where either has no interval."""
    if not isinstance(before, Estimate) or not isinstance(after, Estimate):
        return None
    return _judged(difference_of(before, after), _BETTER.get(axis, 0))


def eval_shift(before: SetResult, after: SetResult) -> Shift | None:
    """How the share matching moved on the items both have a score for; None where there are none.

    Items that share a context are drawn together. Whether a behaviour is wanted is not known here.
    """
    own = {score.id: float(score.matching) for score in before.scores}
    common = [(own[score.id], score) for score in after.scores if score.id in own]
    if before.items_hash != after.items_hash or not common:
        return None
    first, second = [hit for hit, _ in common], [float(score.matching) for _, score in common]
    if any(score.context for _, score in common):
        moved = [b - a for a, b in zip(first, second, strict=True)]
        clusters = [score.context or f"item {score.id}" for _, score in common]
        return _judged(clustered_mean_of(moved, clusters, f"share {after.set}", _RESAMPLES), 0)
    before_share, after_share = (share_of(round(sum(hits)), len(hits)) for hits in (first, second))
    return _judged(difference_of(before_share, after_share, correlation(first, second) or 0.0), 0)


def _axis(name: str, percent: bool, figures: Sequence[Figure]) -> Axis:
    shifts = [None, *(shift_of(name, figures[0], figure) for figure in figures[1:])]
    return Axis(name, percent, tuple(figures), tuple(shifts))


def _judged(difference: Estimate, better: int) -> Shift | None:
    low, high = difference.low, difference.high
    if difference.value is None or low is None or high is None:
        return None
    tone: Tone = "moved"
    if low <= 0.0 <= high:
        tone = "same"
    elif better:
        tone = "better" if difference.value * better > 0 else "worse"
    return Shift(difference=difference, tone=tone)


def _mapping(summary: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = summary.get(key)
    return found if isinstance(found, Mapping) else {}
