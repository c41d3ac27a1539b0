"""How well a reward model predicts preferences, each figure with n and an interval."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from constitute.stats import bootstrap_mean, mean, wilson

Figure = dict[str, float]


def preference_metrics(
    margins: Sequence[float], chosen_probs: Sequence[float], seed: int
) -> dict[str, Figure]:
    """Accuracy, NLL (nats), Brier score and mean margin of r_chosen - r_rejected against P(chosen).

    Accuracy counts the pairs whose label is not exactly 0.5, against the harder-labelled side, with a
    Wilson interval; the others are means over all pairs with a bootstrap interval. An empty split gives
    no figures.
    """
    if not margins:
        return {}
    decided = [(margin, p) for margin, p in zip(margins, chosen_probs, strict=True) if p != 0.5]
    # A margin of exactly zero prefers neither side, so it is not right.
    right = sum(margin * (p - 0.5) > 0 for margin, p in decided)
    rng = random.Random(seed)
    pairs = list(zip(margins, chosen_probs, strict=True))
    figures = {
        "nll": _mean_figure([_nll(margin, p) for margin, p in pairs], rng),
        "brier": _mean_figure([(_sigmoid(margin) - p) ** 2 for margin, p in pairs], rng),
        "margin": _mean_figure([margin if p >= 0.5 else -margin for margin, p in pairs], rng),
    }
    if decided:
        low, high = wilson(right, len(decided))
        accuracy = {"value": right / len(decided), "n": len(decided), "low": low, "high": high}
        figures = {"accuracy": accuracy, **figures}
    return figures


def _mean_figure(values: list[float], rng: random.Random) -> Figure:
    low, high = bootstrap_mean(values, rng)
    return {"value": mean(values), "n": len(values), "low": low, "high": high}


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def _nll(margin: float, p: float) -> float:
    """Cross-entropy of sigmoid(margin) against p: softplus(margin) - p * margin."""
    return max(margin, 0.0) + math.log1p(math.exp(-abs(margin))) - p * margin
