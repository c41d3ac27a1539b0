"""How fast `generate` is on pocket, alone and beside one busy process, by spin count and threads.

OpenMP's threads wait for each other by spinning; beside another busy process they spin for a core it holds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from constitute.pocket.world import prompts as world_prompts

ROWS = 320
BUSY = [sys.executable, "-c", "while True: pass"]


def main(arguments: list[str]) -> None:
    """Print rows/s for every setting, quiet and beside, each run in turn so that drift hits all alike."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks neighbour")
    parser.add_argument("--spins", nargs="*", default=["default", "0", "1000", "10000", "100000"])
    parser.add_argument("--threads", nargs="*", default=["2", "1"])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    settings = [(spin, threads) for threads in options.threads for spin in options.spins]
    settings = [(spin, threads) for spin, threads in settings if threads != "1" or spin in ("default", "0")]
    found: dict[tuple[str, str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        prompts = write_prompts(Path(folder) / "prompts.jsonl")
        for repeat in range(options.repeats):
            for spin, threads in settings:
                for beside in (False, True):
                    run = Path(folder) / f"{repeat}-{spin}-{threads}-{beside}"
                    rate = rows_per_second(prompts, run, spin, threads, beside)
                    found.setdefault((spin, threads, beside), []).append(rate)
                    print(spin, threads, "beside" if beside else "quiet", f"{rate:.1f}", flush=True)
    print(f"\n{'spin count':>12}  threads  quiet rows/s           beside rows/s          quiet / beside")
    for spin, threads in settings:
        quiet, beside = (found[spin, threads, each] for each in (False, True))
        print(
            f"{spin:>12}  {threads:>7}  {words(quiet):<21}  {words(beside):<21}  {median(quiet) / median(beside):.2f}"
        )


def write_prompts(path: Path) -> Path:
    """The first prompts of pocket's world as a file."""
    drawn = [prompt.as_prompt() for prompt in world_prompts("train", n=ROWS, seed=0)]
    lines = [prompt.model_dump_json() for prompt in drawn]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows_per_second(prompts: Path, run: Path, spin: str, threads: str, beside: bool) -> float:
    """Rows a second of one whole `constitute generate` process, the loading of the model left out."""
    words = ["generate", "--model", "pocket", "--prompts", str(prompts), "--run", str(run), "--json"]
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT",)}
    environment |= {"OMP_NUM_THREADS": threads}
    if spin != "default":
        environment["GOMP_SPINCOUNT"] = spin
    neighbour = subprocess.Popen(BUSY) if beside else None
    try:
        done = subprocess.run(
            [sys.executable, "-m", "constitute", *words],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return next(float(event["rows_per_s"]) for event in events if event["event"] == "finish")


def median(values: list[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def words(values: list[float]) -> str:
    """The median and the range."""
    return f"{median(values):.0f} ({min(values):.0f}-{max(values):.0f}, n = {len(values)})"


if __name__ == "__main__":
    main(sys.argv[1:])
