"""How the training commands print what came out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click


def print_summary(summary: Mapping[str, Any], as_json: bool, following: str) -> None:
    """The summary as a table on stdout, or as one JSON event, and the next command on stderr."""
    from constitute.cli.text import table
    from constitute.progress import first_process

    if not first_process():
        return
    if as_json:
        click.echo(json.dumps({"event": "result", **summary}))
        return
    click.echo(table(("figure", "value"), list(_cells(summary))))
    click.echo(f"next: {following}", err=True)


def _cells(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Rows of the table; a figure with an interval is one row."""
    for name, value in summary.items():
        if isinstance(value, list):
            # A table of its own, such as the reliability bins: kept whole in training.json.
            yield f"{prefix}{name}", f"{len(value)} rows, see training.json"
        elif not isinstance(value, Mapping):
            yield f"{prefix}{name}", value
        elif "low" in value:
            interval = f"{value['low']:.3f} to {value['high']:.3f}"
            yield f"{prefix}{name}", f"{value['value']:.3f} ({interval}, n = {value['n']})"
        else:
            yield from _cells(value, f"{prefix}{name} ")
