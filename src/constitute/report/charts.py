"""Charts for a page that runs nothing, as Altair describes them; `report.svg` draws them.

Altair is imported where something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from constitute.report.svg import INK, ROOM, svg_of
from constitute.text import harmless
from constitute.types import Record

if TYPE_CHECKING:
    from altair import ChartType
    from markupsafe import Markup

T = TypeVar("T")
MAX_POINTS = 400
BINS = 20
# A smoothed value is the mean of this share of the line, around its place.
_SMOOTHED_OVER = 0.1
_COLOURS = ["var(--accent)", "var(--second)", "var(--third)", "var(--fourth)"]


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


class Cell(Record):
    """A vote in a heat map, or missing ones from `column` to before `end`: `kind` is a, b or none.

    `depth` is |2p - 1|.
    """

    row: str
    column: int
    end: int
    kind: str
    depth: float
    title: str


def curve(points: Sequence[tuple[float, float]], x_name: str, smooth: bool = False) -> Markup:
    """A line through (x, y); with `smooth` it is the running mean, and the points themselves are faint.

    Of more than 400 points, evenly spaced ones and the last are drawn.
    """
    import altair as alt

    means = smoothed([y for _, y in points]) if smooth else [y for _, y in points]
    kept = thinned([(*point, mean) for point, mean in zip(points, means, strict=True)])
    rows = [{"x": x, "y": y, "mean": mean} for x, y, mean in kept]
    span = max(x for x, _ in points) - min(x for x, _ in points)
    whole = all(float(x).is_integer() for x, _ in points)
    axis = _axis(5, span if whole else None, grid=False)
    x = alt.X("x:Q", title=x_name, axis=axis, scale=alt.Scale(zero=False, nice=False))
    scale = alt.Scale(zero=False)
    line = alt.Chart(_rows()).mark_line(color=_COLOURS[0], strokeWidth=1.8)
    drawn: ChartType = line.encode(x=x, y=alt.Y("mean:Q", title=None, scale=scale, axis=_axis(4)))
    if smooth:
        faint = alt.Chart(_rows()).mark_line(color=_COLOURS[0], strokeWidth=1, opacity=0.3)
        drawn = alt.layer(faint.encode(x=x, y=alt.Y("y:Q", title=None, scale=scale, axis=_axis(4))), drawn)
    return svg_of(drawn.properties(width=270, height=110), rows)


def histogram(counts: Sequence[int]) -> Markup:
    """Bars of counts over equal parts of [0, 1]."""
    import altair as alt

    n = len(counts)
    rows = [
        {"from": i / n, "to": (i + 1) / n, "count": count, "title": f"{i / n:g} to {(i + 1) / n:g}: {count}"}
        for i, count in enumerate(counts)
        if count
    ]
    bars = alt.Chart(_rows()).mark_bar(color=_COLOURS[0], binSpacing=1, aria=True)
    halves = alt.Axis(grid=False, values=[0, 0.5, 1])
    drawn = bars.encode(
        x=alt.X("from:Q", bin="binned", title="P(A)", axis=halves, scale=alt.Scale(domain=[0, 1])),
        x2="to:Q",
        y=alt.Y("count:Q", title="pairs", axis=_axis(3, max(counts))),
        description="title:N",
    )
    return svg_of(drawn.properties(width=300, height=120), rows)


def plot(traces: Sequence[Trace], x_title: str) -> Markup:
    """Marks with whiskers and the lines fitted to them; x starts at 0. Raises `ValueError` without a mark."""
    import altair as alt

    marks = [mark for trace in traces for mark in trace.marks]
    if not marks:
        raise ValueError("a plot without a mark")
    low, high = min(mark.low for mark in marks), max(mark.high for mark in marks)
    rows = [
        {
            "name": trace.name,
            "x": mark.x,
            "y": mark.y,
            "low": mark.low,
            "high": mark.high,
            "title": mark.label,
        }
        for trace in traces
        for mark in trace.marks
    ]
    # A fitted line may leave the frame; it ends at the edge.
    fitted = [
        {"name": trace.name, "x": x, "fit": y} for trace in traces for x, y in trace.line if low <= y <= high
    ]
    names = list(dict.fromkeys(trace.name for trace in traces))
    colours = [_COLOURS[at % len(_COLOURS)] for at in range(len(names))]
    legend = alt.Legend(orient="top", direction="vertical", symbolType="circle", symbolOpacity=1)
    colour = alt.Color("name:N", scale=alt.Scale(domain=names, range=colours), legend=legend)
    x = alt.X("x:Q", title=x_title, axis=_axis(6, grid=False), scale=alt.Scale(domainMin=0))
    base, axis, scale = alt.Chart(_rows()).encode(x=x, color=colour), _axis(5), alt.Scale(zero=False)
    layers = [
        base.mark_rule(strokeWidth=1.5).encode(
            y=alt.Y("low:Q", title=None, axis=axis, scale=scale), y2="high:Q"
        ),
        base.mark_point(filled=True, size=40, opacity=1, aria=True).encode(y="y:Q", description="title:N"),
        base.mark_line(strokeWidth=2).encode(y="fit:Q").transform_filter("isValid(datum.fit)"),
    ]
    layers[:2] = [layer.transform_filter("isValid(datum.y)") for layer in layers[:2]]
    return svg_of(alt.layer(*layers).properties(width=360, height=220), [*rows, *fitted])


def steps(traces: Sequence[Trace], names: Sequence[str]) -> Markup:
    """Shares in percent with whiskers, a line a trace; a mark's `x` is the place of its policy in `names`.

    Raises `ValueError` without a mark.
    """
    import altair as alt

    # Names stand in the rows and in the scales, and have to be the same in both.
    policies = [harmless(name) for name in names]
    rows = [
        {
            "name": harmless(trace.name),
            "policy": policies[int(mark.x)],
            "y": 100 * mark.y,
            "low": 100 * mark.low,
            "high": 100 * mark.high,
            "title": mark.label,
        }
        for trace in traces
        for mark in trace.marks
    ]
    if not rows:
        raise ValueError("a plot without a mark")
    shown = [harmless(trace.name) for trace in traces]
    legend = alt.Legend(orient="right", symbolType="circle", symbolOpacity=1)
    colours = alt.Scale(domain=shown, range=[_COLOURS[at % len(_COLOURS)] for at in range(len(shown))])
    below = alt.Axis(title=None, grid=False, labelAngle=0, labelFontSize=12, labelColor=INK)
    x = alt.X("policy:N", sort=policies, axis=below, scale=alt.Scale(type="point", padding=0.3))
    y, up = alt.Scale(domain=[0, 100]), _axis(5)
    base = alt.Chart(_rows()).encode(x=x, color=alt.Color("name:N", scale=colours, legend=legend))
    drawn = alt.layer(
        base.mark_line(strokeWidth=1.8).encode(y=alt.Y("y:Q", title="% of replies", axis=up, scale=y)),
        base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q", axis=up, scale=y), y2="high:Q"),
        base.mark_point(filled=True, size=45, opacity=1, aria=True).encode(y="y:Q", description="title:N"),
    )
    return svg_of(drawn.properties(width=110 * len(names), height=200), rows)


def dots(marks: Sequence[Mark], x_title: str) -> Markup:
    """A row a mark, under its label and in the order given: `y` on the axis, with its whisker.

    `x` is not drawn. Raises `ValueError` without a mark.
    """
    import altair as alt

    if not marks:
        raise ValueError("a plot without a mark")
    rows = [
        {**mark.model_dump(), "title": f"{mark.label}: {mark.y:.3f} ({mark.low:.3f} to {mark.high:.3f})"}
        for mark in marks
    ]
    names = list(dict.fromkeys(mark.label for mark in marks))
    axis = alt.Axis(title=None, labelLimit=150, labelFontSize=12, labelColor=INK, labelPadding=8)
    y = alt.Y("label:N", sort=names, axis=axis, scale=alt.Scale(paddingInner=0.3))
    base, scale = alt.Chart(_rows()).encode(y=y), alt.Scale(zero=False)
    drawn = alt.layer(
        base.mark_rule(strokeWidth=1.5, color=_COLOURS[0]).encode(
            x=alt.X("low:Q", title=x_title, axis=_axis(5), scale=scale), x2="high:Q"
        ),
        base.mark_point(filled=True, size=50, opacity=1, color=_COLOURS[0], aria=True).encode(
            x=alt.X("y:Q", title=x_title, axis=_axis(5), scale=scale), description="title:N"
        ),
    )
    room = {**ROOM, "left": 24}
    return svg_of(drawn.properties(width=300, height=26 * len(names), padding=room), rows)


def heatmap(cells: Sequence[Cell], width: int = 820, height: int = 24) -> Markup:
    """Rows and columns in their order; a cell's colour says for which answer, its depth how surely."""
    import altair as alt

    names, columns = list(dict.fromkeys(cell.row for cell in cells)), max(cell.end for cell in cells)
    rows = [cell.model_dump() for cell in cells]
    kinds = alt.Scale(domain=["a", "b", "none"], range=["var(--for-a)", "var(--for-b)", "var(--missing)"])
    axis = alt.Axis(title=None, labelLimit=200, labelFontSize=12, labelColor=INK, labelPadding=8)
    drawn = (
        alt.Chart(_rows())
        .mark_rect(aria=True)
        .encode(
            x=alt.X("column:Q", axis=None, scale=alt.Scale(domain=[0, columns], nice=False)),
            x2="end:Q",
            y=alt.Y("row:N", sort=names, axis=axis, scale=alt.Scale(paddingInner=0.06)),
            color=alt.Color("kind:N", scale=kinds, legend=None),
            opacity=alt.Opacity("depth:Q", scale=None, legend=None),
            description="title:N",
        )
    )
    # Long names are the wider, the wider the page's font.
    room = {**ROOM, "left": 24}
    return svg_of(drawn.properties(width=width, height=height * len(names), padding=room), rows)


def bin_counts(values: Iterable[float], bins: int = BINS) -> tuple[int, ...]:
    """Counts of values in [0, 1] by equal parts of it; 1 belongs to the last."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(value * bins))] += 1
    return tuple(counts)


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of a tenth of the values, and of at least 5, around each; fewer at both ends."""
    half = max(5, round(len(values) * _SMOOTHED_OVER)) // 2
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    spans = ((max(0, at - half), min(len(values), at + half + 1)) for at in range(len(values)))
    return [(sums[last] - sums[first]) / (last - first) for first, last in spans]


def thinned(points: Sequence[T]) -> list[T]:
    """At most `MAX_POINTS` + 1 of the points, evenly spaced, the first and the last among them."""
    step = max(1, math.ceil(len(points) / MAX_POINTS))
    kept = list(points[::step])
    return kept if (len(points) - 1) % step == 0 else [*kept, points[-1]]


def _axis(ticks: int, whole: float | None = None, **more: Any) -> Any:
    """About so many ticks; no more than `whole`, the span of values that are whole numbers."""
    import altair as alt

    count = ticks if whole is None else max(1, min(ticks, int(whole)))
    return alt.Axis(tickCount=count, format=".4~g", **more)


def _rows() -> Any:
    """The rows by name: Altair would check each against the schema, which takes most of the time."""
    import altair as alt

    return alt.NamedData(name="rows")
