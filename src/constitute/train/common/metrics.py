"""How well a reward model predicts preferences, each figure with n and an interval."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from constitute.stats import bootstrap_mean, mean, quantile, wilson

Figure = dict[str, float]

_BINS = 10
_LEAST_IN_BIN = 10
# Resampled values in all: 500 resamples of 4000 pairs take about a second.
_RESAMPLED = 2_000_000


def preference_metrics(
    margins: Sequence[float], chosen_probs: Sequence[float], seed: int
) -> dict[str, Figure]:
    """Accuracy, NLL (nats), Brier score, mean margin of r_chosen - r_rejected against P(chosen), and ECE.

    Accuracy counts the pairs whose label is not exactly 0.5, against the harder-labelled side, with a
    Wilson interval; the others are means over all pairs with a bootstrap interval. An empty split gives
    no figures.
    """
    if not margins:
        return {}
    rng = random.Random(seed)
    pairs = list(zip(margins, chosen_probs, strict=True))
    figures = {
        "nll": mean_figure([_nll(margin, p) for margin, p in pairs], rng),
        "brier": mean_figure([(sigmoid(margin) - p) ** 2 for margin, p in pairs], rng),
        "margin": mean_figure([margin if p >= 0.5 else -margin for margin, p in pairs], rng),
        "ece": calibration_error(margins, chosen_probs, rng),
    }
    accuracy = accuracy_figure(margins, chosen_probs)
    return {"accuracy": accuracy, **figures} if accuracy["n"] else figures


def accuracy_figure(margins: Sequence[float], chosen_probs: Sequence[float]) -> Figure:
    """Share of the pairs with a label other than 0.5 whose likelier side scores higher (Wilson interval)."""
    decided = [(margin, p) for margin, p in zip(margins, chosen_probs, strict=True) if p != 0.5]
    # A margin of exactly zero prefers neither side, so it is not right.
    return share_figure(sum(margin * (p - 0.5) > 0 for margin, p in decided), len(decided))


def share_figure(count: int, n: int) -> Figure:
    """A proportion with its Wilson interval; NaN of nothing."""
    low, high = wilson(count, n)
    return {"value": count / n if n else math.nan, "n": n, "low": low, "high": high}


def mean_figure(values: Sequence[float], rng: random.Random) -> Figure:
    """A mean with its bootstrap interval."""
    low, high = bootstrap_mean(values, rng)
    return {"value": mean(values), "n": len(values), "low": low, "high": high}


def reliability(
    margins: Sequence[float], chosen_probs: Sequence[float], rng: random.Random
) -> list[dict[str, float]]:
    """Bins of like confidence: `n`, mean `predicted` P of the side the model prefers, mean `label` of it.

    `low` and `high` bound the mean label (bootstrap). The side is the model's choice, not the label's: seen
    from the labels' side even a model that knows the true probabilities would seem too timid. Bins hold
    equally many pairs, 10 of them or as many as leave 10 pairs in each.
    """
    bins = []
    for part in _bins(_points(margins, chosen_probs)):
        label = mean_figure([y for _, y in part], rng)
        bins.append({"n": len(part), "predicted": mean([p for p, _ in part]), "label": label["value"]})
        bins[-1] |= {"low": label["low"], "high": label["high"]}
    return bins


def calibration_error(margins: Sequence[float], chosen_probs: Sequence[float], rng: random.Random) -> Figure:
    """Expected calibration error over the equal-mass bins of `reliability` (arXiv 1706.04599, equation 3).

    sum over bins of n_bin / n * |mean label - mean prediction|. Not below 0 and so biased upwards in small
    samples, as is its bootstrap interval.
    """
    points = _points(margins, chosen_probs)
    n = len(points)
    resamples = max(50, min(500, _RESAMPLED // n))
    places = range(n)
    drawn = sorted(
        _ece([points[place] for place in sorted(rng.choices(places, k=n))]) for _ in range(resamples)
    )
    return {"value": _ece(points), "n": n, "low": quantile(drawn, 0.025), "high": quantile(drawn, 0.975)}


def _points(margins: Sequence[float], chosen_probs: Sequence[float]) -> list[tuple[float, float]]:
    """(confidence, label) of the side the model prefers, least confident first."""
    pairs = zip(margins, chosen_probs, strict=True)
    return sorted((sigmoid(abs(margin)), p if margin >= 0 else 1.0 - p) for margin, p in pairs)


def _bins(points: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    n = len(points)
    count = max(1, min(_BINS, n // _LEAST_IN_BIN))
    return [points[n * place // count : n * (place + 1) // count] for place in range(count)]


def _ece(points: list[tuple[float, float]]) -> float:
    gaps = [abs(sum(y - p for p, y in part)) for part in _bins(points)]
    return sum(gaps) / len(points)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), for any finite x."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def _nll(margin: float, p: float) -> float:
    """Cross-entropy of sigmoid(margin) against p: softplus(margin) - p * margin."""
    return max(margin, 0.0) + math.log1p(math.exp(-abs(margin))) - p * margin
