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
    known = [(score, p) for _, score in scored if (p := score.p_matching) is not None]
    clusters = [score.context or f"item {score.id}" for score, _ in known]
    return {"MC2": clustered_mean_of([p for _, p in known], clusters, "MC2", cfg.resamples)}
