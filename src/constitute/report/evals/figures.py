"""Figures of evals as their pages print them: shares with three decimals, as on a terminal."""

from __future__ import annotations

from constitute.stats import Estimate


def show_change(value: float | None) -> str:
    """Such as `−0.050`, with its sign."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def show_value(figure: Estimate) -> str:
    """The value alone."""
    return "–" if figure.value is None else f"{figure.value:.3f}"


def show_reach(figure: Estimate, signed: bool = False) -> str:
    """The interval and n, such as `0.309 to 0.498, n = 100`."""
    if figure.low is None or figure.high is None:
        return f"no interval, n = {figure.n}"
    low, high = (show_change(end) if signed else f"{end:.3f}" for end in (figure.low, figure.high))
    return f"{low} to {high}, n = {figure.n}"
