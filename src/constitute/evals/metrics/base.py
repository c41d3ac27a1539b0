"""Metrics made of statistics, so that their change between two ways of asking can be counted as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from constitute.config.evals import EvalsConfig
from constitute.stats import Estimate, bootstrap_of

if TYPE_CHECKING:
    from constitute.evals.families.base import ItemScore
    from constitute.evals.metrics import Scored
    from constitute.types import EvalItem

# None where the items do not say, such as a correlation of one occupation.
Statistic = Callable[["Scored"], float | None]


def _every(item: EvalItem) -> bool:
    return True


@dataclass(frozen=True)
class Figure:
    """A statistic of the items that are `of` it; `per_context` where its cases are contexts and not items."""

    statistic: Statistic
    of: Callable[[EvalItem], bool] = _every
    per_context: bool = False


@dataclass(frozen=True)
class Statistics:
    """A metric of named figures, each with the interval of a bootstrap that draws whole contexts."""

    figures: Mapping[str, Figure]

    def __call__(self, scored: Scored, cfg: EvalsConfig) -> dict[str, Estimate]:
        """Each figure of the scored items."""
        return {
            name: _estimate(figure, figure.statistic, scored, f"bias {name}", cfg.resamples)
            for name, figure in self.figures.items()
        }

    def changes(
        self, pairs: Sequence[tuple[EvalItem, ItemScore, ItemScore]], cfg: EvalsConfig
    ) -> dict[str, Estimate]:
        """Each figure's change from the first score of the items to the second."""
        return {
            name: _estimate(
                figure, partial(_change, figure.statistic), pairs, f"change {name}", cfg.resamples
            )
            for name, figure in self.figures.items()
        }


def _estimate(
    figure: Figure, statistic: Callable[[Any], float | None], rows: Sequence[Any], seed: str, resamples: int
) -> Estimate:
    """The statistic of the rows that are of the figure; a row begins with its item."""
    contexts: dict[str, list[Any]] = {}
    for row in rows:
        if figure.of(row[0]):
            contexts.setdefault(row[0].context or f"item {row[0].id}", []).append(row)
    found = bootstrap_of(list(contexts.values()), statistic, seed, resamples)
    if found.low == found.high:
        # Every resample is the same: that shows nothing of how far the figure may be off.
        found = found.model_copy(update={"low": None, "high": None})
    return found.model_copy(update={"n": len(contexts)}) if figure.per_context and found.n else found


def _change(statistic: Statistic, pairs: Sequence[tuple[EvalItem, ItemScore, ItemScore]]) -> float | None:
    before = statistic([(item, first) for item, first, _ in pairs])
    after = statistic([(item, second) for item, _, second in pairs])
    return None if before is None or after is None else after - before
