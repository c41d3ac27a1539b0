"""The one place that asks which day it is, for what is told to a model."""

from __future__ import annotations

from datetime import date


def today() -> str:
    """This machine's day as YYYY-MM-DD."""
    return date.today().isoformat()
