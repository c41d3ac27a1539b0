"""Turn the view into one HTML file that needs nothing else and runs nothing."""

from __future__ import annotations

from pathlib import Path

from constitute.files import write_text
from constitute.report.build import build
from constitute.report.page import render_page
from constitute.report.read import read_run
from constitute.report.view import Figure, Report
from constitute.store import Store


def write_report(run_dir: Path, out: Path | None = None, rows: int = 24) -> Path:
    """Write the report of a run, to `run_dir/report.html` unless `out` is given; returns its path.

    Raises `UsageError` where there is no run, `DataError` for a broken file, `StorageError` for the disk.
    """
    with Store.open(run_dir, create=False, readonly=True) as store:
        report = build(store, read_run(run_dir), rows)
    return write_text(out or run_dir / "report.html", render_report(report))


def render_report(report: Report) -> str:
    """The page. Every text is escaped; the only style allowed to apply is our own, by its hash."""
    filters = {"figure": show_figure, "interval": show_interval}
    return render_page("report.html.j2", ["report.css"], filters, report=report)


def show_figure(figure: Figure) -> str:
    """The value alone: a percentage, or four significant digits."""
    return f"{100 * figure.value:.1f} %" if figure.percent else f"{figure.value:.4g}"


def show_interval(figure: Figure) -> str:
    """The interval and n, as far as they are known."""
    parts = []
    if figure.low is not None and figure.high is not None:
        scale, form = (100, ".1f") if figure.percent else (1, ".3g")
        parts.append(f"{scale * figure.low:{form}} to {scale * figure.high:{form}}")
    if figure.n is not None:
        parts.append(f"n = {figure.n:,}".replace(",", "\u202f"))
    return ", ".join(parts)
