"""What the report says of training: curves from the metrics, and the figures of each trainer's summary."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from constitute.report.names import metric_title, training_title
from constitute.report.read import Training
from constitute.stats import Estimate, mean

Figure = Estimate | float | None
# Trainers that maximise a reward.
BY_REWARD = ("ppo", "grpo")
_OF_ROLLOUTS = ("reward", "kl", "entropy", "length", "eos_rate", "kl_coef")
# Metrics drawn for each kind of trainer, in this order, where they were written.
_DRAWN = {
    "sft": ("loss", "eval_loss", "mean_token_accuracy"),
    "reward": ("accuracy", "eval_accuracy", "loss", "eval_loss", "nll"),
    "ppo": (*_OF_ROLLOUTS, "explained_variance", "sync_gap"),
    "grpo": (*_OF_ROLLOUTS, "flat_groups", "sync_gap"),
}
# Figures of the prompts held out from PPO, one a part of the reward.
_HELD_OUT = "held_out/reward"
_LOSS = ("loss", "eval_loss", "accuracy", "reward")
_X = ("iteration", "step", "epoch")
# The loss of a step is that of a few rows: of more steps than this, the running mean is what one looks at.
_NOISY, _MANY = ("loss",), 40
# The part of a summary that holds a trainer's figures with their intervals.
_SECTION = {"reward": "held_out", "dpo": "held_out", "best-of-n": "reward"}
# Counts of a summary, in the words of the page; those of `_IF_ANY` where there are any.
_COUNTS = ("rows", "pairs", "pairs_held_out", "prompts", "samples", "iterations", "steps", "tokens")
_IF_ANY = (
    "rows_too_long",
    "rows_mixed",
    "pairs_too_long",
    "pairs_weightless",
    "pairs_undecided",
    "prompts_failed",
)


@dataclass(frozen=True)
class Curve:
    """A metric by step; with `smooth` its running mean is drawn, as a step's value says little."""

    title: str
    x_name: str
    points: tuple[tuple[float, float], ...]
    smooth: bool

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last value; with `smooth` the means of the first and of the last tenth."""
        ys = [y for _, y in self.points]
        tenth = max(1, len(ys) // 10) if self.smooth else 1
        return mean(ys[:tenth]), mean(ys[-tenth:])

    @property
    def flat(self) -> bool:
        """Whether nothing moves but by rounding, so that there is nothing to draw."""
        ys = [y for _, y in self.points]
        return max(ys) - min(ys) <= 1e-9 * max(1.0, max(map(abs, ys)))


@dataclass(frozen=True)
class Trained:
    """A trainer that ran: what its folder holds, its counts, figures and curves."""

    title: str
    kind: str
    verdict: str
    noted: tuple[str, ...]
    counts: tuple[str, ...]
    figures: tuple[tuple[str, Estimate], ...]
    curves: tuple[Curve, ...]


def trained(one: Training) -> Trained:
    """All that the page shows of one trainer."""
    doubts = [one.summary.get(name) for name in ("warning", "held_out_doubt")]
    return Trained(
        title=training_title(one.kind, one.name),
        kind=one.kind,
        verdict=one.verdict,
        noted=(*(doubt for doubt in doubts if isinstance(doubt, str)), *one.noted),
        counts=tuple(_counts(one.summary)),
        figures=tuple(figures_of(one)),
        curves=tuple(curves_of(one)),
    )


def curves_of(one: Training) -> list[Curve]:
    """The curves of one trainer; none where it wrote no figures or fewer than two lines."""
    held_out = sorted({key for line in one.metrics for key in line if key.startswith(_HELD_OUT)})
    found = (_curve(key, one.metrics) for key in (*_DRAWN.get(one.kind, _LOSS), *held_out))
    return [drawn for drawn in found if drawn is not None]


def figures_of(one: Training) -> list[tuple[str, Estimate]]:
    """Name and value of what the trainer measured on pairs held out, or on prompts."""
    section = one.summary.get(_SECTION.get(one.kind, ""))
    found = section if isinstance(section, Mapping) else {}
    if one.kind in BY_REWARD:
        found = {
            "reward, first iteration": one.summary.get("reward_before"),
            "reward, last iterations": one.summary.get("reward_after"),
            **_held_out(one.summary),
        }
    figures = [(str(name), figure_of(value)) for name, value in found.items()]
    return [(name, figure) for name, figure in figures if isinstance(figure, Estimate)]


def _held_out(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Each part of the reward on prompts that were not trained on: the proxy and what it stands for."""
    found = summary.get("held_out")
    parts = found.get("parts") if isinstance(found, Mapping) else None
    if not isinstance(parts, Mapping):
        return {}
    return {
        f"{'reward' if name == 'sum' else name} on held-out prompts, {when}": row.get(when)
        for name, row in parts.items()
        if isinstance(row, Mapping)
        for when in ("start", "best", "end")
    }


def _counts(summary: Mapping[str, Any]) -> Iterator[str]:
    """Such as `1,600 rows`, `200 steps`, `66 s`."""
    for key in (*_COUNTS, *_IF_ANY):
        value = summary.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and (value or key in _COUNTS):
            noun, _, rest = key.partition("_")
            rest = rest.replace("_", " ")
            yield f"{value:,} {noun[:-1] if value == 1 else noun}{f' {rest}' if rest else ''}"
    seconds = summary.get("seconds")
    total = number(seconds.get("total") if isinstance(seconds, Mapping) else seconds)
    if total is not None:
        yield f"{total:,.0f} s"


def _curve(key: str, lines: Sequence[Mapping[str, Any]]) -> Curve | None:
    """One metric over the first of iteration, step or epoch that its lines have; None without two points."""
    found = [(line, value) for line in lines if (value := _value(line.get(key))) is not None]
    if len(found) < 2:
        return None
    x_name = next((name for name in _X if all(_value(line.get(name)) is not None for line, _ in found)), "")
    xs = [_value(line[x_name]) if x_name else float(i) for i, (line, _) in enumerate(found, 1)]
    points = tuple((x, value) for x, (_, value) in zip(xs, found, strict=True) if x is not None)
    return Curve(metric_title(key), x_name or "line", points, key in _NOISY and len(points) > _MANY)


def _value(value: Any) -> float | None:
    return number(value.get("value") if isinstance(value, Mapping) else value)


def figure_of(value: Any) -> Figure:
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
