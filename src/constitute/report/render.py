"""Turn the view into one HTML file that needs nothing else and runs nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from constitute import __version__
from constitute.report.build import build
from constitute.report.read import read_run
from constitute.report.text import clean
from constitute.report.view import Figure, Report
from constitute.run import write_atomic
from constitute.store import Store

_HERE = Path(__file__).parent


def write_report(run_dir: Path, out: Path | None = None, rows: int = 24) -> Path:
    """Write the report of a run, to `run_dir/report.html` unless `out` is given; returns its path.

    Raises `UsageError` where there is no run, `DataError` for a broken file, `StorageError` for the disk.
    """
    with Store.open(run_dir, create=False, readonly=True) as store:
        report = build(store, read_run(run_dir), rows)
    return write_atomic(out or run_dir / "report.html", render_report(report))


def render_report(report: Report) -> str:
    """The page. Every text is escaped; the only style allowed to apply is our own, by its hash."""
    css = (_HERE / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return str(_template().render(report=report, css=_own(css), style_hash=digest, version=__version__))


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        # Whatever a field holds, no control character reaches the page.
        finalize=lambda value: clean(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=show_figure, interval=show_interval)
    return environment.get_template("report.html.j2")


def _own(css: str) -> Any:
    """Our own style sheet, which must not be escaped for its hash to hold."""
    from markupsafe import Markup

    return Markup(css)


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
