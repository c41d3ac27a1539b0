"""The table of a finished or stopped run: `python -m benchmarks data.speed.table FILE [--base ours]`."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitute.stats import mean_of

Turn = Mapping[str, Any]
_HEADS = (
    "side",
    "n",
    "rows (without)",
    "requests",
    "tokens",
    "prompt tokens",
    "s",
    "tokens/s",
    "rows/s",
    "CPU s",
    "first row",
    "base / side, by token",
    "by row",
)


def main(arguments: Sequence[str]) -> None:
    """Print one Markdown table for each workload and model in the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks data.speed.table")
    parser.add_argument("results", type=Path)
    parser.add_argument("--base", default="ours", help="the side that the others are compared with")
    given = parser.parse_args(arguments)
    turns = [json.loads(line) for line in given.results.read_text(encoding="utf-8").splitlines()]
    for key in dict.fromkeys((turn["workload"], turn["model"], turn["temperature"]) for turn in turns):
        kind, model, temperature = key
        some = [turn for turn in turns if (turn["workload"], turn["model"], turn["temperature"]) == key]
        print(f"\nworkload {kind}, {model}, {some[0]['n']} rows, temperature {temperature:g}\n")
        print("\n".join(table(some, given.base)))


def table(turns: Sequence[Turn], base: str) -> list[str]:
    """Lines of a Markdown table: medians of each side, and the rate of `base` over that of the side.

    The ratio is the mean over repeats in which both sides ran, with its interval by bootstrap over them.
    """
    lines = [f"| {' | '.join(_HEADS)} |", "|" + "---|" * len(_HEADS)]
    good = [turn for turn in turns if "error" not in turn]
    of_base = {turn["repeat"]: turn for turn in good if turn["side"] == base}
    for side in dict.fromkeys(turn["side"] for turn in turns):
        own = [turn for turn in good if turn["side"] == side]
        if not own:
            why = next(turn["error"] for turn in turns if turn["side"] == side)
            lines.append(f"| {side} | 0 | {why} |" + " |" * (len(_HEADS) - 3))
            continue
        both = [(of_base[turn["repeat"]], turn) for turn in own if turn["repeat"] in of_base]
        lines.append(f"| {' | '.join((side, *_cells(own), *ratios(both)))} |")
    return lines


def ratios(both: Sequence[tuple[Turn, Turn]]) -> tuple[str, str]:
    """(by token, by row): how many times faster the first of each two turns was."""
    found = []
    for key in ("tokens", "rows"):
        each = [
            (a[key] / a["seconds"]) / (b[key] / b["seconds"]) for a, b in both if a.get(key) and b.get(key)
        ]
        found.append(mean_of(each).text(2) if each else "-")
    return found[0], found[1]


def _cells(own: Sequence[Turn]) -> list[str]:
    def median(key: str) -> float | None:
        values = [turn[key] for turn in own if turn.get(key) is not None]
        return statistics.median(values) if values else None

    def text(value: float | None, digits: int = 0) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    def rate(key: str) -> float | None:
        values = [turn[key] / turn["seconds"] for turn in own if turn.get(key) is not None]
        return statistics.median(values) if values else None

    shares = [turn["first_s"] / turn["seconds"] for turn in own if turn.get("first_s") is not None]
    return [
        str(len(own)),
        f"{text(median('rows'))} ({text(median('without'))})",
        *(text(median(key)) for key in ("requests", "tokens", "prompt_tokens")),
        text(median("seconds"), 1),
        text(rate("tokens")),
        text(rate("rows"), 1),
        text(median("cpu"), 1),
        f"{statistics.median(shares):.0%}" if shares else "-",
    ]


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
