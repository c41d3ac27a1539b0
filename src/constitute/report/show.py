"""Figures as the pages print them: the value, its interval and n, and how it moved."""

from __future__ import annotations

from constitute.report.policies import Shift
from constitute.report.training import Figure
from constitute.stats import Estimate

SIGNS = {"better": "better", "worse": "worse", "moved": "", "same": "no change seen"}


def show_figure(figure: Figure, percent: bool = True) -> str:
    """The value alone: a percentage, or four significant digits."""
    value = figure.value if isinstance(figure, Estimate) else figure
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"


def show_interval(figure: Figure, percent: bool = True) -> str:
    """The interval and n, as far as they are known."""
    if not isinstance(figure, Estimate):
        return ""
    n = f"n = {figure.n:,}".replace(",", "\u202f")
    if figure.low is None or figure.high is None:
        return n
    scale, form = (100, ".1f") if percent else (1, ".3g")
    return f"{scale * figure.low:{form}} to {scale * figure.high:{form}}, {n}"


def show_shift(shift: Shift, percent: bool = True) -> str:
    """Such as `▼ −98.8 better`: where it went, how far, and what that is called."""
    value = shift.difference.value or 0.0
    sign = "=" if shift.tone == "same" else "▲" if value > 0 else "▼"
    number = f"{100 * value:+.1f}" if percent else f"{value:+.3g}"
    return " ".join(part for part in (sign, number.replace("-", "−"), SIGNS[shift.tone]) if part)


def show_reach(shift: Shift, percent: bool = True) -> str:
    """The interval of the difference, such as `−99.3 to −96.5`."""
    scale, form = (100, "+.1f") if percent else (1, "+.3g")
    ends = (f"{scale * (end or 0.0):{form}}" for end in (shift.difference.low, shift.difference.high))
    return " to ".join(ends).replace("-", "−")
