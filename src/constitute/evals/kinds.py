"""What changed on a set's targets, beside what changed on its controls."""

from __future__ import annotations

from collections.abc import Sequence

from constitute.config.evals import EvalsConfig
from constitute.evals.compare import Paired, compare_parts
from constitute.evals.controls import CONTROL, KIND, TARGET
from constitute.evals.run import SetResult
from constitute.types import Record

_ALPHA = 0.05


class KindChange(Record):
    """Second minus first policy on the targets of a set and on its controls."""

    target: Paired
    control: Paired

    @property
    def moved(self) -> bool:
        """Whether the targets moved."""
        return self.target.p_holm < _ALPHA

    @property
    def alone(self) -> bool:
        """Whether the targets moved, and no change of the controls is shown."""
        return self.moved and self.control.p_holm >= _ALPHA

    @property
    def sentence(self) -> str:
        """What it shows, in words."""
        own = self.target
        said = f"{own.set}, {own.first} to {own.second}: {_shares(own)} on what its principles speak about"
        said += f", {_shares(self.control)} on controls: "
        if not self.moved:
            return said + "no change is shown on what they speak about"
        if self.alone:
            small = self.control.equal is not None and self.control.equal.holds
            quiet = "its controls did not" if small else "no change is shown on its controls"
            return f"{said}it moved, and {quiet}"
        return said + "the controls moved too, so the change is not of its principles alone"


def _shares(one: Paired) -> str:
    change = 100 * (one.share.value or 0.0)
    return (
        f"from {100 * one.share_first:.0f} to {100 * one.share_second:.0f} % "
        f"({change:+.0f} points, n = {one.share.n}, p = {one.p:.2g}, after Holm {one.p_holm:.2g})"
    )


def kind_changes(pairs: Sequence[tuple[SetResult, SetResult]], cfg: EvalsConfig) -> list[KindChange]:
    """The change of each pair with targets and controls; `p_holm` is corrected for all of both."""
    found = compare_parts([_of_kinds(first, second) for first, second in pairs if _has_kinds(second)], cfg)
    by_key = {(one.set, one.second, one.part): one for one in found}
    return [
        KindChange(target=one, control=control)
        for one in found
        if one.part == _part(TARGET) and (control := by_key.get((one.set, one.second, _part(CONTROL))))
    ]


def results_pairs(results: Sequence[SetResult]) -> list[tuple[SetResult, SetResult]]:
    """The first policy's result on each set beside that of each other policy on the same items."""
    first: dict[str, SetResult] = {}
    pairs = []
    for result in results:
        before = first.setdefault(result.set, result)
        if before is not result and before.items_hash == result.items_hash:
            pairs.append((before, result))
    return pairs


def _of_kinds(first: SetResult, second: SetResult) -> tuple[SetResult, SetResult]:
    """The results with the groups of their kind alone: other parts are another question."""

    def kept(result: SetResult) -> SetResult:
        scores = [
            score.model_copy(update={"groups": tuple(g for g in score.groups if g[0] == KIND)})
            for score in result.scores
        ]
        return result.model_copy(update={"scores": tuple(scores)})

    return kept(first), kept(second)


def _has_kinds(result: SetResult) -> bool:
    return {TARGET, CONTROL} <= {group for score in result.scores for group in score.groups}


def _part(group: tuple[str, str]) -> str:
    return f"{group[0]}: {group[1]}"
