"""How well a reward model predicts preferences, each figure with n and an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.stats import Estimate, calibration_error, confidence_bins, mean, mean_of, share_of

# Fewer values leave the interval of their mean in doubt.
FEWEST = 20


def preference_metrics(
    margins: Sequence[float], chosen_probs: Sequence[float], seed: int
) -> dict[str, Estimate]:
    """Accuracy, NLL (nats), Brier score, mean margin of r_chosen - r_rejected against P(chosen), and ECE.

    Accuracy counts the pairs whose label is not exactly 0.5, against the side that the label prefers, with
    a Wilson interval; the others are means over all pairs with a bootstrap interval. An empty split gives
    no figures.
    """
    if not margins:
        return {}
    pairs = list(zip(margins, chosen_probs, strict=True))
    figures = {
        "nll": mean_of([_nll(margin, p) for margin, p in pairs], seed),
        "brier": mean_of([(sigmoid(margin) - p) ** 2 for margin, p in pairs], seed),
        "margin": mean_of([margin if p >= 0.5 else -margin for margin, p in pairs], seed),
        "ece": calibration_error(confidence_points(margins, chosen_probs), seed),
    }
    accuracy = accuracy_of(margins, chosen_probs)
    return {"accuracy": accuracy, **figures} if accuracy.n else figures


def few_held_out(found: str, least: int, more: str, *, of: str = "") -> str:
    """That held-out figures are of too few, for people, and what to do (`more`); empty if `least` is enough.

    `found` says how many there are, `of` what is counted to `least`. A bootstrap of two values is narrow
    where they are alike, whatever others would be.
    """
    if least >= FEWEST:
        return ""
    return f"the held-out figures are of {found}, and below {FEWEST}{of} they may be chance; {more}"


def accuracy_of(margins: Sequence[float], chosen_probs: Sequence[float]) -> Estimate:
    """Share of the pairs with a label other than 0.5 whose likelier side scores higher (Wilson interval)."""
    decided = [(margin, p) for margin, p in zip(margins, chosen_probs, strict=True) if p != 0.5]
    # A margin of exactly zero prefers neither side, so it is not right.
    return share_of(sum(margin * (p - 0.5) > 0 for margin, p in decided), len(decided))


def reliability(
    margins: Sequence[float], chosen_probs: Sequence[float], seed: int
) -> list[dict[str, float | None]]:
    """Bins of like confidence: `n`, mean `predicted` P of the side the model prefers, mean `label` of it.

    `low` and `high` bound the mean label (bootstrap). The side is the model's choice, not the label's: seen
    from the labels' side, even a model that knows the true probabilities would seem too timid. All bins hold
    the same number of pairs where no confidences are equal; there are 10 of them, or as many as leave 10
    pairs in each.
    """
    bins: list[dict[str, float | None]] = []
    for part in confidence_bins(confidence_points(margins, chosen_probs)):
        label = mean_of([y for _, y in part], seed)
        bins.append({"n": len(part), "predicted": mean([p for p, _ in part]), "label": label.value})
        bins[-1] |= {"low": label.low, "high": label.high}
    return bins


def confidence_points(margins: Sequence[float], chosen_probs: Sequence[float]) -> list[tuple[float, float]]:
    """(confidence, label) of the side the model prefers, least confident first."""
    pairs = zip(margins, chosen_probs, strict=True)
    return sorted((sigmoid(abs(margin)), p if margin >= 0 else 1.0 - p) for margin, p in pairs)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), for any finite x."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def _nll(margin: float, p: float) -> float:
    """Cross-entropy of sigmoid(margin) against p: softplus(margin) - p * margin."""
    return max(margin, 0.0) + math.log1p(math.exp(-abs(margin))) - p * margin
