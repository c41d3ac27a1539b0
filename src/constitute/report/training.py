"""What the report says of training: curves from the metrics, and the figures of each trainer's summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from constitute.report.charts import Curve, curve
from constitute.report.read import Training
from constitute.stats import Estimate

# Metrics drawn for each kind of trainer, in this order, where they were written.
_DRAWN = {
    "sft": ("loss", "eval_loss", "mean_token_accuracy"),
    "reward": ("accuracy", "eval_accuracy", "loss", "eval_loss", "nll"),
    "ppo": ("reward", "kl", "entropy", "length", "eos_rate", "kl_coef", "explained_variance", "sync_gap"),
}
_LOSS = ("loss", "eval_loss", "accuracy", "reward")
_X = ("iteration", "step", "epoch")
# The part of a summary that holds a trainer's figures with their intervals.
_SECTION = {"reward": "held_out", "dpo": "held_out", "best-of-n": "reward"}


def curves_of(one: Training) -> list[Curve]:
    """The curves of one trainer; none where it wrote no figures or fewer than two lines."""
    found = (_curve(key, one.metrics) for key in _DRAWN.get(one.kind, _LOSS))
    return [drawn for drawn in found if drawn is not None]


def figures_of(one: Training) -> list[tuple[str, Estimate]]:
    """Name and value of what the trainer measured on pairs held out, or on prompts."""
    section = one.summary.get(_SECTION.get(one.kind, ""))
    found = section.items() if isinstance(section, Mapping) else ()
    figures = [(str(name), figure_of(value)) for name, value in found]
    return [(name, figure) for name, figure in figures if isinstance(figure, Estimate)]


def _curve(key: str, lines: Sequence[Mapping[str, Any]]) -> Curve | None:
    """One metric over the first of iteration, step or epoch that its lines have; None without two points."""
    found = [(line, value) for line in lines if (value := _value(line.get(key))) is not None]
    if len(found) < 2:
        return None
    x_name = next((name for name in _X if all(_value(line.get(name)) is not None for line, _ in found)), "")
    xs = [_value(line[x_name]) if x_name else float(i) for i, (line, _) in enumerate(found, 1)]
    return curve(key, [x for x in xs if x is not None], [value for _, value in found], x_name or "line")


def _value(value: Any) -> float | None:
    return number(value.get("value") if isinstance(value, Mapping) else value)


def figure_of(value: Any) -> Estimate | float | None:
    """An estimate from `{value, low, high, n}`, or a bare number; None for anything else, NaN included."""
    if isinstance(value, Mapping):
        parts = {key: number(value.get(key)) for key in ("value", "low", "high")}
        try:
            return Estimate(**parts, n=value.get("n", 0)) if None not in parts.values() else parts["value"]
        except ValidationError:
            return parts["value"]
    return number(value)


def number(value: Any) -> float | None:
    """A finite number as a float, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
