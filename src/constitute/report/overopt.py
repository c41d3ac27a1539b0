"""The page of the over-optimisation comparison: plots and tables, as one HTML file that runs nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from constitute.files import write_text
from constitute.report.charts import Mark, Trace, plot
from constitute.report.page import render_page
from constitute.train.overopt.fit import Fit, gold_at
from constitute.train.overopt.points import Point
from constitute.train.overopt.run import Overopt, Series
from constitute.types import Record

# Points of a fitted line.
_STEPS = 60
# Root mean square residual, in standard errors, beyond which a fitted curve is called poor.
_POOR = 2.0


class Table(Record):
    """A table of texts under a title."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Panel(Record):
    """A plot under a title: traces that share both axes."""

    title: str
    traces: tuple[Trace, ...]


class OveroptPage(Record):
    """Everything on the page; every text in it is still to be escaped."""

    title: str
    sentences: tuple[str, ...]
    plots: tuple[Panel, ...]
    tables: tuple[Table, ...]


def write_overopt(page: OveroptPage, out: Path) -> Path:
    """Write the page to `out`; returns its path. Raises `StorageError` for the disk."""
    return write_text(out, render_overopt(page))


def render_overopt(page: OveroptPage) -> str:
    """The page. Every text is escaped; the only style allowed to apply is our own, by its hash."""
    filters = {"drawn": lambda panel: plot(panel.traces, "√KL")}
    return render_page("overopt.html.j2", ["report.css", "overopt.css"], filters, page=page)


def page_of(found: Overopt, title: str) -> OveroptPage:
    """Plots of gold and proxy, a table a method, and one of the fitted curves."""
    drawn = [one for one in found.series if one.points]
    return OveroptPage(
        title=title,
        sentences=found.sentences,
        plots=tuple(_plots(drawn, found.gold)),
        tables=(*(_points(one) for one in drawn), *_fits(found)),
    )


def _plots(drawn: list[Series], gold: str | None) -> Iterator[Panel]:
    if gold is not None and any(point.gold is not None for one in drawn for point in one.points):
        traces = tuple(_trace(one, gold=True) for one in drawn)
        yield Panel(title=f"Gold: {gold}", traces=traces)
    if drawn:
        traces = tuple(_trace(one, gold=False) for one in drawn)
        yield Panel(title="Proxy: what is maximised", traces=traces)


def _trace(one: Series, *, gold: bool) -> Trace:
    marks = []
    for point in one.points:
        measure = point.gold if gold else point.proxy
        if measure is not None:
            label = f"{_at(one, point)}: {measure.text()} at KL {point.kl:.3g}"
            marks.append(
                Mark(x=_root(point.kl), y=measure.value, low=measure.low, high=measure.high, label=label)
            )
    line = _line(one.fit, max(mark.x for mark in marks)) if gold and one.fit is not None else ()
    return Trace(name=f"{one.name} ({one.method})", marks=tuple(marks), line=line)


def _line(fit: Fit, furthest: float) -> tuple[tuple[float, float], ...]:
    ds = [furthest * step / _STEPS for step in range(_STEPS + 1)]
    values = (fit.offset.value, fit.alpha.value, fit.beta.value)
    return tuple((d, gold_at(fit.method, *values, d)) for d in ds)


def _points(one: Series) -> Table:
    first = "iteration" if one.method == "ppo" else "n"
    rows = tuple(
        (
            str(point.at),
            f"{point.kl:.3f}",
            point.proxy.text(),
            "-" if point.gold is None else point.gold.text(),
        )
        for point in one.points
    )
    return Table(
        title=f"{one.name} ({one.method})",
        head=(first, "KL", "proxy (95 %)", "gold (95 %)"),
        rows=rows,
        note="; ".join(one.notes),
    )


def _fits(found: Overopt) -> Iterator[Table]:
    rows = [
        (
            one.name,
            one.fit.alpha.text(),
            one.fit.beta.text(),
            _peak(one.fit),
            f"{one.fit.misfit:.1f}",
        )
        for one in found.series
        if one.fit is not None
    ]
    missing = [f"{one.name}: {one.no_fit}" for one in found.series if one.no_fit]
    missing += [
        f"{one.name}: the curve misses the points by {one.fit.misfit:.1f} standard errors; go by the points, "
        "not by its peak"
        for one in found.series
        if one.fit is not None and one.fit.misfit > _POOR
    ]
    if rows or missing:
        yield Table(
            title="Fitted curves of the gold",
            head=("method", "alpha", "beta", "KL at the peak", "misfit"),
            rows=tuple(rows),
            note="; ".join(missing),
        )


def _peak(fit: Fit) -> str:
    if fit.peak_kl is None:
        return "none: still rising"
    ends = ("unbounded" if end is None else f"{end:.3g}" for end in (fit.peak_low, fit.peak_high))
    beyond = "" if fit.within else ", beyond what was measured"
    return f"{fit.peak_kl:.3g} ({' to '.join(ends)}){beyond}"


def _at(one: Series, point: Point) -> str:
    return f"iteration {point.at}" if one.method == "ppo" else f"best of {point.at}"


def _root(kl: float) -> float:
    return math.sqrt(max(kl, 0.0))
