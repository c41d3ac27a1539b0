"""Seconds and memory of commands on large runs and files: whole processes, their start included.

    python -m benchmarks data.large [--rows N ...] [--megabytes M ...] [--only NAME ...] [--folder DIR]

A run of 10 rows gives the memory that a command takes whatever the rows: imports, most of all. `over` is the
peak of a command less that. What is made lies in a temporary folder and is removed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_BASE, _BASE_MB = 10, 0.1
_HEAD = f"{'command':<18} {'rows':>9} {'wall s':>8} {'cpu s':>8} {'MiB':>7} {'over':>7}"
_CHAIN = "chain"
_FILES = ("pairs.jsonl", "pairs.jsonl.zst", "pairs.csv", "pairs.parquet")
# What each command is given; RUN, HALF and OTHER are runs, OUT a folder that is new each time.
COMMANDS: dict[str, list[str]] = {
    "status": ["status", "--run", "RUN"],
    "export": ["export", "--run", "RUN", "--out", "OUT"],
    "report": ["report", "--run", "RUN", "-o", "OUT/report.html"],
    "rows": ["rows", "--run", "RUN", "--json"],
    "rows --worst": ["rows", "--run", "RUN", "--worst", "20"],
    "filter": ["filter", "--run", "RUN"],
    "merge": ["merge", "HALF", "OTHER", "--out", "OUT/merged"],
}
# What goes through a file: a command, or what `benchmarks.data.child` does as a command does it.
READING: dict[str, list[str]] = {
    "inspect": ["constitute", "data", "inspect"],
    "pairs": ["benchmarks.data.child", "pairs"],
    "prompts": ["benchmarks.data.child", "prompts"],
}


class Took(NamedTuple):
    """What one process took: seconds of the clock and of the processor, and its peak memory in MiB."""

    wall: float
    cpu: float
    peak: float


def main(arguments: Sequence[str]) -> None:
    """Print one table of the commands on runs, and one of those on files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks data.large")
    parser.add_argument("--rows", type=int, nargs="*", default=[1000, 50_000])
    parser.add_argument("--megabytes", type=int, nargs="*", default=[])
    parser.add_argument("--only", nargs="*", default=[*COMMANDS, _CHAIN, *READING])
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        if given.rows:
            _of_runs(Path(folder), given.rows, given.only)
        if given.megabytes:
            _of_files(Path(folder), given.megabytes, given.only)


def _of_runs(folder: Path, sizes: Sequence[int], only: Sequence[str]) -> None:
    print(_HEAD, flush=True)
    base: dict[str, float] = {}
    for rows in (_BASE, *sizes):
        run, half, other = (folder / f"{name}{rows}" for name in ("run", "half", "other"))
        for name, command in COMMANDS.items():
            if name in only:
                _made(run, rows, 0) if name != "merge" else (
                    _made(half, rows // 2, 0),
                    _made(other, rows - rows // 2, rows // 2),
                )
                places = {"RUN": str(run), "HALF": str(half), "OTHER": str(other)}
                _tell(name, rows, _command(command, places), base)
        if _CHAIN in only:
            _tell(
                _CHAIN, rows, _took([sys.executable, "-m", "benchmarks.data.child", "chain", str(rows)]), base
            )


def _of_files(folder: Path, sizes: Sequence[int], only: Sequence[str]) -> None:
    print(_HEAD, flush=True)
    base: dict[str, float] = {}
    for name in _FILES:
        for size in (_BASE_MB, *sizes):
            path = folder / name
            rows = int(_child("file", str(path), str(int(size * 10**6))).stdout)
            for what, command in READING.items():
                if what in only:
                    told = f"{what} {name.partition('.')[2]}"
                    _tell(told, rows, _took([sys.executable, "-m", *command, str(path)]), base)
            path.unlink()


def _tell(name: str, rows: int, took: Took, base: dict[str, float]) -> None:
    least = base.setdefault(name, took.peak)
    over = took.peak - least
    print(
        f"{name:<18} {rows:>9} {took.wall:>8.2f} {took.cpu:>8.2f} {took.peak:>7.0f} {over:>7.0f}", flush=True
    )


def _made(run: Path, rows: int, first: int) -> None:
    if not run.exists():
        _child("run", str(run), str(rows), str(first))


def _child(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A process of its own: the peak of a child is at least what its parent held when it was started.
    command = [sys.executable, "-m", "benchmarks.data.child", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


def _command(command: Sequence[str], places: dict[str, str]) -> Took:
    with tempfile.TemporaryDirectory(dir=Path(next(iter(places.values()))).parent) as out:
        words = [
            places.get(word, word.replace("OUT", out) if word.startswith("OUT") else word) for word in command
        ]
        return _took([sys.executable, "-m", "constitute", *words])


def _took(command: Sequence[str]) -> Took:
    start = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 3):
            said.seek(0)
            sys.exit(f"{' '.join(command)}: {said.read().decode()[-2000:]}")
    return Took(time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
