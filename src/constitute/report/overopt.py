"""Draw proxy and gold rewards over the distance from the reference, as one HTML file that runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.errors import StorageError
from constitute.files import write_text
from constitute.report.charts import Tick, nice_ticks
from constitute.report.page import render_page
from constitute.types import Record

WIDTH, HEIGHT = 520, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
COLOURS = 4


class Mark(Record):
    """A measured value at `x` with its interval, and what it is of, in data units."""

    x: float
    y: float
    low: float
    high: float
    label: str


class Trace(Record):
    """One method in a plot: its marks and the points of its fitted curve, in data units."""

    name: str
    marks: tuple[Mark, ...]
    line: tuple[tuple[float, float], ...] = ()


class Whisker(Record):
    """A mark in pixels."""

    x: float
    y: float
    low: float
    high: float
    label: str


class Drawn(Record):
    """A trace in pixels; `colour` counts from 0."""

    name: str
    colour: int
    whiskers: tuple[Whisker, ...]
    points: str


class Plot(Record):
    """A plot in pixels: traces that share both axes."""

    title: str
    traces: tuple[Drawn, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


class Table(Record):
    """A table of texts under a title."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class OveroptPage(Record):
    """Everything on the page; every text in it is still to be escaped."""

    title: str
    sentences: tuple[str, ...]
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]


def plot(title: str, traces: Sequence[Trace]) -> Plot:
    """Lay traces out on common axes. Raises `ValueError` where there is no mark."""
    marks = [mark for trace in traces for mark in trace.marks]
    if not marks:
        raise ValueError(f"the plot {title!r} has no mark")
    x_marks = nice_ticks(0.0, max(max(mark.x for mark in marks), 1e-9), 5)
    y_marks = nice_ticks(min(mark.low for mark in marks), max(mark.high for mark in marks), 5)
    (x_high, y_low, y_high) = x_marks[-1], y_marks[0], y_marks[-1]

    def across(x: float) -> float:
        return round(LEFT + x / x_high * (WIDTH - LEFT - RIGHT), 1)

    def up(y: float) -> float:
        # A fitted curve may leave the frame; it ends at the edge.
        share = (min(max(y, y_low), y_high) - y_low) / (y_high - y_low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    drawn = tuple(
        Drawn(
            name=trace.name,
            colour=place % COLOURS,
            whiskers=tuple(
                Whisker(x=across(m.x), y=up(m.y), low=up(m.low), high=up(m.high), label=m.label)
                for m in trace.marks
            ),
            points=" ".join(f"{across(x)},{up(y)}" for x, y in trace.line),
        )
        for place, trace in enumerate(traces)
    )
    return Plot(
        title=title,
        traces=drawn,
        x_ticks=tuple(Tick(at=across(x), text=f"{x:g}") for x in x_marks),
        y_ticks=tuple(Tick(at=up(y), text=f"{y:.4g}") for y in y_marks),
    )


def render_overopt(page: OveroptPage) -> str:
    """The page. Every text is escaped; the only style allowed to apply is our own, by its hash."""
    frame: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT}
    return render_page("overopt.html.j2", ["report.css", "overopt.css"], {}, page=page, frame=frame)


def write_overopt(page: OveroptPage, out: Path) -> Path:
    """Write the page to `out`; returns its path. Raises `StorageError` for the disk."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StorageError(
            f"cannot write {out}: {problem.strerror or problem}; give another --out"
        ) from problem
    return write_text(out, render_overopt(page))
