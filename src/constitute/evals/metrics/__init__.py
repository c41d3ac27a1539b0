"""Figures that a set has besides the share matching: a registry, one function a way to count.

A metric gets each item with its score, and gives figures by name, each with its n and interval. Made of
`base.Statistics`, it also gives their changes between the conditions of `evals bias`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from constitute.config.evals import EvalsConfig
    from constitute.evals.families.base import ItemScore
    from constitute.stats import Estimate
    from constitute.types import EvalItem

    Scored = Sequence[tuple[EvalItem, ItemScore]]
    Metric = Callable[[Scored, EvalsConfig], dict[str, Estimate]]

# Name -> "module:object" of a `Metric`.
METRICS: dict[str, str] = {
    "bbq": "constitute.evals.metrics.bbq:BBQ",
    "pronouns": "constitute.evals.metrics.pronouns:PRONOUNS",
    "mass_of_true": "constitute.evals.metrics.choice:mass_of_true",
}
# Kinds of groups that tell a metric what an item's answers stand for; they are no parts of a set.
ROLES = frozenset({"unknown", "biased", "percent women", "other person", "BLS occupation"})
