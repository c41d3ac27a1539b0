"""What the report says of training and evals: curves from metrics, results by set and policy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from constitute.report.charts import Curve, curve
from constitute.report.text import clip
from constitute.report.view import EvalRow, EvalView, Figure, TrainingView

# Metrics drawn for each trainer, in this order, where they were written.
_DRAWN = {
    "sft": ("loss", "eval_loss", "mean_token_accuracy"),
    "reward": ("accuracy", "eval_accuracy", "loss", "eval_loss", "nll"),
    "ppo": ("reward", "kl", "entropy", "length", "eos_rate", "kl_coef", "explained_variance", "sync_gap"),
}
_X = ("iteration", "step", "epoch")
_POLICY_ORDER = ("base", "sft", "ppo")


def training_of(metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[TrainingView, ...]:
    """Each trainer's curves; a trainer that left no metrics is said not to have run."""
    views = []
    for name, drawn in _DRAWN.items():
        lines = metrics.get(name)
        curves = tuple(c for key in drawn if (c := _curve(key, lines or ())) is not None)
        state = "" if curves else "not run" if lines is None else "no figures written yet"
        views.append(TrainingView(name=name, curves=curves, state=state))
    return tuple(views)


def _curve(key: str, lines: Sequence[Mapping[str, Any]]) -> Curve | None:
    """One metric over the first of iteration, step or epoch that its lines have; None without two points."""
    found = [(line, value) for line in lines if (value := _value(line.get(key))) is not None]
    if len(found) < 2:
        return None
    x_name = next((name for name in _X if all(_value(line.get(name)) is not None for line, _ in found)), "")
    xs = [_value(line[x_name]) if x_name else float(i) for i, (line, _) in enumerate(found, 1)]
    return curve(key, [x for x in xs if x is not None], [value for _, value in found], x_name or "line")


def _value(value: Any) -> float | None:
    if isinstance(value, Mapping):
        value = value.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def evals_of(results: Sequence[Mapping[str, Any]]) -> tuple[EvalView, ...]:
    """Results by set, policies in the order base, sft, ppo and then by name."""
    sets: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        if result.get("set") and isinstance(result.get("share"), Mapping):
            sets.setdefault(str(result["set"]), []).append(result)
    return tuple(
        EvalView(name=clip(name, 200), rows=tuple(_eval_row(r) for r in sorted(found, key=_policy_rank)))
        for name, found in sorted(sets.items())
    )


def _policy_rank(result: Mapping[str, Any]) -> tuple[int, str]:
    name = str(result.get("policy"))
    return (_POLICY_ORDER.index(name) if name in _POLICY_ORDER else len(_POLICY_ORDER), name)


def _eval_row(result: Mapping[str, Any]) -> EvalRow:
    share, p_matching = (_figure(result[key]) for key in ("share", "p_matching"))
    return EvalRow(
        policy=clip(result.get("policy"), 80),
        model=clip((result.get("model") or {}).get("name", ""), 200),
        share=share,
        p_matching=p_matching,
        mass=_value(result.get("mass")),
        unparsed=int(result["share"].get("n_unparsed", 0)),
    )


def _figure(given: Mapping[str, Any]) -> Figure:
    return Figure(value=given["value"], low=given["low"], high=given["high"], n=given["n"])
