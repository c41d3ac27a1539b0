"""Geometry of the charts: plain numbers that the template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.types import Record

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 22
MAX_POINTS = 400


class Tick(Record):
    """A mark on an axis, in pixels, and its text."""

    at: float
    text: str


class Curve(Record):
    """A line: SVG points, the ticks of both axes, and the first and last values."""

    title: str
    points: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_name: str
    first: float
    last: float
    n: int


class Bar(Record):
    """A bar of a histogram, in pixels."""

    x: float
    y: float
    width: float
    height: float
    count: int
    label: str


class Histogram(Record):
    """Bars over [0, 1] and the ticks of both axes."""

    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    n: int


def curve(title: str, xs: Sequence[float], ys: Sequence[float], x_name: str) -> Curve:
    """A curve through (xs, ys); of more than 400 points, evenly spaced ones and the last are drawn."""
    pairs = list(zip(xs, ys, strict=True))
    step = math.ceil(len(pairs) / MAX_POINTS)
    drawn = pairs[::step] if pairs[-1] in pairs[::step] else [*pairs[::step], pairs[-1]]
    x_low, x_high = min(xs), max(xs)
    marks = nice_ticks(min(ys), max(ys))
    y_low, y_high = min(marks[0], min(ys)), max(marks[-1], max(ys))
    points = " ".join(f"{_x(x, x_low, x_high):.1f},{_y(y, y_low, y_high):.1f}" for x, y in drawn)
    ends = (x_low,) if x_low == x_high else (x_low, x_high)
    return Curve(
        title=title,
        points=points,
        x_ticks=tuple(Tick(at=round(_x(x, x_low, x_high), 1), text=f"{x:g}") for x in ends),
        y_ticks=tuple(Tick(at=round(_y(y, y_low, y_high), 1), text=f"{y:.4g}") for y in marks),
        x_name=x_name,
        first=ys[0],
        last=ys[-1],
        n=len(pairs),
    )


def histogram(values: Sequence[float], bins: int = 20) -> Histogram:
    """Counts of values in [0, 1]; 1 belongs to the last bin."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(value * bins))] += 1
    top = max(1, *counts)
    width = (WIDTH - LEFT - RIGHT) / bins
    bars = []
    for index, count in enumerate(counts):
        y = _y(count, 0, top)
        bars.append(
            Bar(
                x=round(LEFT + index * width + 0.5, 2),
                y=round(y, 2),
                width=round(width - 1, 2),
                height=round(HEIGHT - BOTTOM - y, 2),
                count=count,
                label=f"{index / bins:g} to {(index + 1) / bins:g}",
            )
        )
    return Histogram(
        bars=tuple(bars),
        x_ticks=tuple(Tick(at=round(_x(x, 0, 1), 1), text=f"{x:g}") for x in (0, 0.5, 1)),
        y_ticks=tuple(Tick(at=round(_y(y, 0, top), 1), text=str(y)) for y in (0, top)),
        n=len(values),
    )


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from at most `low` to at least `high`, some `about` of them."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _x(x: float, low: float, high: float) -> float:
    share = 0.5 if high == low else (x - low) / (high - low)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(y: float, low: float, high: float) -> float:
    share = 0.5 if high == low else (y - low) / (high - low)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
