"""Geometry of the charts: plain numbers that the template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.types import Record

MAX_POINTS = 400
# Traces of a plot have as many colours; a further trace takes the first again.
COLOURS = 4


class Frame(Record):
    """The pixels of a chart, and its margins."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int

    def x(self, x: float, low: float, high: float) -> float:
        """Pixels from the left; the middle where `low` and `high` are one value."""
        share = 0.5 if high == low else (x - low) / (high - low)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, y: float, low: float, high: float) -> float:
        """Pixels from the top."""
        share = 0.5 if high == low else (y - low) / (high - low)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


SMALL = Frame(width=320, height=150, left=46, right=8, top=8, bottom=22)
LARGE = Frame(width=520, height=320, left=52, right=12, top=12, bottom=40)


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


class Mark(Record):
    """A measured value at `x` with its interval, and what it is of."""

    x: float
    y: float
    low: float
    high: float
    label: str


class Trace(Record):
    """One series of a plot: its marks, and the points of a line fitted to them."""

    name: str
    marks: tuple[Mark, ...]
    line: tuple[tuple[float, float], ...] = ()


class Plot(Record):
    """Traces in pixels that share both axes; a line has one string of SVG points, empty without a line."""

    title: str
    traces: tuple[Trace, ...]
    lines: tuple[str, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def plot(title: str, traces: Sequence[Trace]) -> Plot:
    """Lay traces out on common axes; x starts at 0. Raises `ValueError` where there is no mark."""
    marks = [mark for trace in traces for mark in trace.marks]
    if not marks:
        raise ValueError(f"the plot {title!r} has no mark")
    x_values = nice_ticks(0.0, max(max(mark.x for mark in marks), 1e-9), 5)
    y_values = nice_ticks(min(mark.low for mark in marks), max(mark.high for mark in marks), 5)

    def across(x: float) -> float:
        return round(LARGE.x(x, 0.0, x_values[-1]), 1)

    def up(y: float) -> float:
        # A fitted line may leave the frame; it ends at the edge.
        return round(LARGE.y(min(max(y, y_values[0]), y_values[-1]), y_values[0], y_values[-1]), 1)

    def placed(mark: Mark) -> Mark:
        return Mark(x=across(mark.x), y=up(mark.y), low=up(mark.low), high=up(mark.high), label=mark.label)

    return Plot(
        title=title,
        traces=tuple(Trace(name=one.name, marks=tuple(map(placed, one.marks))) for one in traces),
        lines=tuple(" ".join(f"{across(x)},{up(y)}" for x, y in one.line) for one in traces),
        x_ticks=tuple(Tick(at=across(x), text=f"{x:g}") for x in x_values),
        y_ticks=tuple(Tick(at=up(y), text=f"{y:.4g}") for y in y_values),
    )


def curve(title: str, xs: Sequence[float], ys: Sequence[float], x_name: str) -> Curve:
    """A curve through (xs, ys); of more than 400 points, evenly spaced ones and the last are drawn."""
    pairs = list(zip(xs, ys, strict=True))
    step = math.ceil(len(pairs) / MAX_POINTS)
    drawn = pairs[::step] if pairs[-1] in pairs[::step] else [*pairs[::step], pairs[-1]]
    x_low, x_high = min(xs), max(xs)
    marks = nice_ticks(min(ys), max(ys))
    y_low, y_high = min(marks[0], min(ys)), max(marks[-1], max(ys))
    points = " ".join(f"{SMALL.x(x, x_low, x_high):.1f},{SMALL.y(y, y_low, y_high):.1f}" for x, y in drawn)
    ends = (x_low,) if x_low == x_high else (x_low, x_high)
    return Curve(
        title=title,
        points=points,
        x_ticks=tuple(Tick(at=round(SMALL.x(x, x_low, x_high), 1), text=f"{x:g}") for x in ends),
        y_ticks=tuple(Tick(at=round(SMALL.y(y, y_low, y_high), 1), text=f"{y:.4g}") for y in marks),
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
    width = (SMALL.width - SMALL.left - SMALL.right) / bins
    bars = []
    for index, count in enumerate(counts):
        y = SMALL.y(count, 0, top)
        bars.append(
            Bar(
                x=round(SMALL.left + index * width + 0.5, 2),
                y=round(y, 2),
                width=round(width - 1, 2),
                height=round(SMALL.height - SMALL.bottom - y, 2),
                count=count,
                label=f"{index / bins:g} to {(index + 1) / bins:g}",
            )
        )
    return Histogram(
        bars=tuple(bars),
        x_ticks=tuple(Tick(at=round(SMALL.x(x, 0, 1), 1), text=f"{x:g}") for x in (0, 0.5, 1)),
        y_ticks=tuple(Tick(at=round(SMALL.y(y, 0, top), 1), text=str(y)) for y in (0, top)),
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
