"""Our PPO against TRL 1.12.0's PPOTrainer: the same models, prompts, rewards and hyperparameters.

    python -m benchmarks train [--quick] [--settings 64x4,256x1] [--no-learning]

Each run is a process of its own, the sides in turn in every repeat. Seconds are those from one update's end
to the next, everything between included; the first updates of a run warm it up and are not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.train.floor import Group, Shape, Work, update_flops
from benchmarks.venvs import pins, python_of

Setting = dict[str, Any]
# The last version with a PPOTrainer, and what it shares with ours.
TRL = "1.12.0"
SAME = ("transformers", "tokenizers", "accelerate", "datasets", "huggingface-hub")
HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "constitute-benchmarks"
THREADS = 2
WARM_UP = 2
BASE: Setting = {
    "batch": 64, "updates": WARM_UP + 5, "device_batch": 16, "seed": 0,
    # TRL rolls out all 64 at once and trains on 16 at a time: as fast as 64, in less than half the memory.
    # The rate is too small to move the policy: its lengths stay those of the setting.
    "rate": 1e-7,
}  # fmt: skip
# `tokens` is our microbatch_tokens: the default holds a whole batch of the short settings, whose first
# forward then serves the update; a quarter of it keeps the long ones small, at the same speed.
SETTINGS: dict[str, Setting] = {
    "64x4": {"policy": "fixed", "new_tokens": 64, "epochs": 4, "tokens": 8192},
    "64x1": {"policy": "fixed", "new_tokens": 64, "epochs": 1, "tokens": 8192},
    "256x1": {"policy": "fixed", "new_tokens": 256, "epochs": 1, "tokens": 2048},
    "16-256x1": {"policy": "varied", "new_tokens": 256, "epochs": 1, "tokens": 2048},
    "16-256x4": {"policy": "varied", "new_tokens": 256, "epochs": 4, "tokens": 2048},
}
SIDES: dict[str, Setting] = {
    "trl": {"side": "trl"},
    "ours": {"side": "ours", "engine": "vllm", "critic": "separate"},
    "ours-engine-logprobs": {
        "side": "ours",
        "engine": "vllm",
        "critic": "separate",
        "old_logprobs": "engine",
    },
    "ours-graphs": {
        "side": "ours",
        "engine": "vllm",
        "critic": "separate",
        "old_logprobs": "engine",
        "graph_tokens": 10**6,
    },
    "ours-shared": {"side": "ours", "engine": "vllm", "critic": "shared"},
    "ours-transformers": {"side": "ours", "engine": "transformers", "critic": "separate"},
}
LEARNING: Setting = {
    "policy": "fixed", "new_tokens": 24, "epochs": 4, "rate": 3e-4, "updates": 12, "tokens": 8192,
}  # fmt: skip
LAST = 5


def main(argv: Sequence[str] = ()) -> None:
    """Make what is needed, run every side of every setting, print the tables."""
    args = _arguments(argv)
    chosen = args.settings.split(",") if args.settings else list(SETTINGS)
    unknown = [name for name in chosen if name not in SETTINGS]
    if unknown:
        sys.exit(f"no such setting: {unknown[0]!r}; known: {', '.join(SETTINGS)}")
    sides = args.sides.split(",") if args.sides else list(SIDES)
    if set(sides) - set(SIDES) or not {"trl", "ours"} <= set(sides):
        sys.exit(f"--sides needs trl and ours, and may name {', '.join(SIDES)}; given {args.sides}")
    pythons = {
        "ours": Path(sys.executable),
        "trl": python_of(args.venv, f"trl=={TRL}", pins(SAME), torch=True),
    }
    if not (args.task / "prompts.json").exists():
        args.task.mkdir(parents=True, exist_ok=True)
        print(_output([sys.executable, "-P", HERE / "task.py", args.task]), file=sys.stderr)
    machine = json.loads(
        _output([sys.executable, "-P", HERE / "floor.py", args.task / "fixed"]).splitlines()[-1]
    )
    print(
        f"fp32, {THREADS} threads, {machine['flops_per_s'] / 1e9:.0f} GFLOP/s in products of these shapes; "
        f"TRL {TRL}"
    )
    updates = WARM_UP + (3 if args.quick else 5)
    repeats = args.repeats or (1 if args.quick else 3)
    print(HEADER)
    for name in chosen:
        print(speed_rows(name, speed(name, sides, pythons, args.task, repeats, updates), machine), flush=True)
    if args.learning:
        print(learning_table(learn(pythons, args.task, 2 if args.quick else 5)))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks train", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one repeat of few updates, two seeds")
    parser.add_argument("--settings", help=f"rows to run, of {', '.join(SETTINGS)}")
    parser.add_argument("--sides", help=f"of {', '.join(SIDES)}")
    parser.add_argument("--repeats", type=int, help="processes of each side")
    parser.add_argument("--venv", type=Path, default=CACHE / f"trl-{TRL}", help="environment for TRL")
    parser.add_argument("--task", type=Path, default=CACHE / "task", help="folder of models and prompts")
    parser.add_argument(
        "--no-learning", dest="learning", action="store_false", help="skip the learning check"
    )
    return parser.parse_args(argv)


def _output(command: Sequence[str | Path]) -> str:
    """Standard output of a process with `THREADS` threads; leaves with the end of its errors."""
    quiet = {"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(list(map(str, command)), env=os.environ | quiet, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:3]))} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def run(side: str, setting: Setting, pythons: Mapping[str, Path], task: Path) -> dict[str, Any]:
    """One run of one side in a process of its own; the result is its last line."""
    whole = BASE | setting | SIDES[side]
    script = HERE / ("trl_side.py" if whole["side"] == "trl" else "our_side.py")
    lines = _output([pythons[whole["side"]], "-P", script, task, json.dumps(whole)]).splitlines()
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def speed(
    name: str, sides: Sequence[str], pythons: Mapping[str, Path], task: Path, repeats: int, updates: int
) -> dict[str, list[dict[str, Any]]]:
    """Results of each side, the sides in turn in every repeat."""
    setting = SETTINGS[name] | {"updates": updates}
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for repeat in range(repeats):
        for side in sides:
            found[side].append(run(side, setting | {"seed": repeat}, pythons, task))
    return found


HEADER = (
    f"{'setting':>9} {'side':<20} {'s/update':>8} {'quartiles':>13} {'CPU s':>6} {'generate':>8} "
    f"{'GiB':>5} {'TRL/it':>6} {'CPU':>5} {'floor/it':>8}  phases"
)


def speed_rows(name: str, results: Mapping[str, list[dict[str, Any]]], machine: Mapping[str, Any]) -> str:
    """A line a side: median and quartiles of the timed updates over all repeats, and the ratios.

    Ratios to TRL are medians of those within each repeat.
    """
    setting = BASE | SETTINGS[name]
    raw = results["ours"]
    engine_s = min(result["raw_generate"] for result in raw)
    lengths = [length for result in raw for length in result["lengths"]]
    lines = []
    for side, runs in results.items():
        seconds = _timed(runs, "seconds")
        middle = statistics.median(seconds)
        low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
        floor = engine_s + _arithmetic(side, setting, lengths, raw[0]["prompt"], machine)
        phases = {phase: statistics.median(_timed(runs, "phases", phase)) for phase in runs[0]["phases"]}
        peak = max(result["peak_gib"] for result in runs)
        shown = " ".join(f"{phase} {spent:.2f}" for phase, spent in phases.items())
        times, cpu = (_ratio(results["trl"], runs, what) for what in ("seconds", "cpu"))
        lines.append(
            f"{name:>9} {side:<20} {middle:8.2f} {f'{low:.2f}-{high:.2f}':>13} "
            f"{statistics.median(_timed(runs, 'cpu')):6.1f} {phases['generate']:8.2f} {peak:5.2f} "
            f"{times:6.2f} {cpu:5.2f} {floor / middle:8.2f}  {shown}"
        )
    mean = statistics.mean(lengths)
    lines.append(f"{'':>9} mean completion {mean:.0f} tokens; the engine alone {engine_s:.2f} s")
    return "\n".join(lines)


def _arithmetic(
    side: str, setting: Setting, lengths: Sequence[int], prompt: int, machine: Mapping[str, Any]
) -> float:
    """Seconds of the FLOPs that an update of this side's algorithm cannot do without."""
    work = Work(setting["epochs"], SIDES[side].get("critic", "separate"))
    groups = [Group(prompt, (length,)) for length in lengths]
    flops = update_flops(Shape(*machine["shape"]), groups, work) * setting["batch"] / len(lengths)
    return flops / machine["flops_per_s"]


def _ratio(theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]], what: str) -> float:
    pairs = zip(theirs, ours, strict=True)
    return statistics.median(
        statistics.median(_timed([a], what)) / statistics.median(_timed([b], what)) for a, b in pairs
    )


def _timed(runs: Sequence[Mapping[str, Any]], *path: str) -> list[float]:
    """The values under `path` of every run, its warm-up left out."""
    values = []
    for result in runs:
        found: Any = result
        for key in path:
            found = found[key]
        values += found[WARM_UP:]
    return values


def learn(pythons: Mapping[str, Path], task: Path, seeds: int) -> dict[str, list[list[float]]]:
    """Mean rewards by update of each seed, of TRL and of ours with the same critic."""
    found: dict[str, list[list[float]]] = {"trl": [], "ours": []}
    for seed in range(seeds):
        for side, curves in found.items():
            curves.append(run(side, LEARNING | {"seed": seed}, pythons, task)["rewards"])
    return found


def learning_table(curves: Mapping[str, list[list[float]]]) -> str:
    """The mean reward at the start and at the end of each side, and whether the ends agree within noise."""
    lines = [
        f"learning, {LEARNING['updates'] * BASE['batch']} episodes: {'first':>8} {'last':>8} {'s.e.':>6}"
    ]
    ends: dict[str, tuple[float, float]] = {}
    for side, runs in curves.items():
        last = [statistics.mean(curve[-LAST:]) for curve in runs]
        error = statistics.stdev(last) / math.sqrt(len(last))
        ends[side] = statistics.mean(last), error
        first = statistics.mean(curve[0] for curve in runs)
        lines.append(f"{side:>30} {first:8.3f} {ends[side][0]:8.3f} {error:6.3f}")
    gap = ends["ours"][0] - ends["trl"][0]
    noise = math.hypot(ends["ours"][1], ends["trl"][1])
    verdict = "within" if abs(gap) <= 2 * noise else "OUTSIDE"
    lines.append(
        f"ours - TRL {gap:+.3f}, {verdict} 2 standard errors ({noise:.3f}, {len(curves['trl'])} seeds)"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
