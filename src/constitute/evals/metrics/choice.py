"""Figures of multiple choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitute.config.evals import EvalsConfig
from constitute.significance import clustered_mean_of
from constitute.stats import Estimate

if TYPE_CHECKING:
    from constitute.evals.metrics import Scored


def mass_of_true(scored: Scored, cfg: EvalsConfig) -> dict[str, Estimate]:
    """MC2 of TruthfulQA (arXiv 2109.07958): the true answers' part in the probability of all answers."""
    clusters = [score.context or f"item {score.id}" for _, score in scored]
    return {
        "MC2": clustered_mean_of([score.p_matching for _, score in scored], clusters, "MC2", cfg.resamples)
    }
