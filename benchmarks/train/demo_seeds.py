"""The demo under several seeds: what each step does to harm and help, and how far the seeds lie apart.

    python -m benchmarks train.demo_seeds [--seeds 0,1,2] [--runs FOLDER] [--constitution pocket/harmless]

Each seed is a `constitute demo` of its own in FOLDER/seed-N: other prompts, samples and weights. One that has
a summary there already is read and not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.cli.text import table
from constitute.pocket.effect import LIMITED

POLICIES = ("base", "sft", "ppo")
FIGURES = ("harmful", "helpful", *LIMITED)


def main(arguments: Sequence[str] = ()) -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks train.demo_seeds")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, default=Path("demo-seeds"))
    parser.add_argument("--constitution", default="pocket/harmless")
    options = parser.parse_args(arguments)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    found = {seed: summary_of(options.runs / f"seed-{seed}", seed, options.constitution) for seed in seeds}
    print(table(("seed", "figure, %", *POLICIES, "sft to ppo", "p"), list(rows_of(found))))
    print("\n" + table(("figure, %", *POLICIES), list(spread_of(found))))


def summary_of(run: Path, seed: int, constitution: str) -> dict[str, Any]:
    """The summary of one demo, run where it is not there yet."""
    file = run / "summary.json"
    if not file.is_file():
        command = [sys.executable, "-m", "constitute", "demo", "--out", str(run), "--seed", str(seed)]
        subprocess.run([*command, "--constitution", constitution, "--json"], check=True)
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def rows_of(found: dict[int, dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row a seed and figure: each policy's share with its interval, and PPO's paired change with its p."""
    rows = []
    for seed, summary in found.items():
        tested = {
            (one["axis"], one["first"], one["second"]): one
            for one in summary["effects"]
            if one["difference"]["value"] is not None
        }
        for figure in FIGURES:
            step = tested.get((figure, "sft", "ppo"))
            change = f"{100 * step['difference']['value']:+.1f}" if step else ""
            p = f"{step['p']:.2g}" if step else ""
            shares = [_share(summary["policies"][policy][figure]) for policy in POLICIES]
            rows.append((str(seed), figure, *shares, change, p))
    return rows


def spread_of(found: dict[int, dict[str, Any]]) -> list[tuple[str, ...]]:
    """The lowest, the mean and the highest share over the seeds."""
    rows = []
    for figure in FIGURES:
        cells = []
        for policy in POLICIES:
            shares = [100 * one["policies"][policy][figure]["value"] for one in found.values()]
            cells.append(f"{sum(shares) / len(shares):.1f} ({min(shares):.1f} to {max(shares):.1f})")
        rows.append((f"{figure}, mean (lowest to highest of {len(found)} seeds)", *cells))
    return rows


def _share(one: dict[str, Any]) -> str:
    return f"{100 * one['value']:.1f} ({100 * one['low']:.1f} to {100 * one['high']:.1f})"
