"""Our trainers against those of TRL 1.16: GRPO, RLOO, DPO and SFT on the same model, rows and settings.

    python -m benchmarks train.peers [--kinds grpo,rloo,dpo,sft] [--models small,smollm2] [--repeats N]
        [--lengths 64,16-256] [--sides trl,ours]

Each run is a process of its own, the sides in turn in every repeat; ratios are taken within a repeat. GRPO
and RLOO: 8 samples of each prompt, one update a batch, KL to the reference; the first update warms up and is
not counted. TRL samples with transformers, for its vLLM modes need a GPU; `ours-transformers` samples as it
does, and `learning` is the time apart from sampling. `train.reward_step` has the reward model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.train.ppo import CACHE, HERE, THREADS, _output

Setting = dict[str, Any]
Results = dict[str, list[dict[str, Any]]]
WARM_UP = 1
SHARED: Setting = {"threads": THREADS, "samples": 8, "device_batch": 16}
MODELS: dict[str, Setting] = {
    "small": {"batch": 64, "updates": WARM_UP + 3, "tokens": 4096},
    "smollm2": {"batch": 16, "updates": WARM_UP + 1, "tokens": 2048, "device_batch": 8},
}
# Tokens of a response, after prompts of 32 tokens or of 32 times `prompt_rows`; and whose policy of the task.
LENGTHS: dict[str, Setting] = {
    "64": {"policy": "fixed", "new_tokens": 64, "varied": False},
    "128+64": {"policy": "fixed", "new_tokens": 64, "varied": False, "prompt_rows": 4},
    "256": {"policy": "fixed", "new_tokens": 256, "varied": False},
    "16-256": {"policy": "varied", "new_tokens": 256, "varied": True},
}
GROUP_SIDES: dict[str, Setting] = {
    "trl": {"side": "trl"},
    "ours": {"side": "ours", "engine": "vllm"},
    "ours-transformers": {"side": "ours", "engine": "transformers"},
}
PLAIN_SIDES: dict[str, Setting] = {"trl": {"side": "trl"}, "ours": {"side": "ours"}}
KINDS: dict[str, Setting] = {
    "grpo": {"kind": "groups", "algorithm": "grpo"},
    "rloo": {"kind": "groups", "algorithm": "rloo"},
    "dpo": {"kind": "dpo"},
    "sft": {"kind": "sft"},
}


def main(argv: Sequence[str] = ()) -> None:
    """Run every side of every setting and print a line each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks train.peers", description=__doc__)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--models", default="small")
    parser.add_argument("--lengths", default="64,128+64,16-256")
    parser.add_argument("--sides", default="", help="of GRPO and RLOO; TRL's is among them in any case")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--task", type=Path, default=CACHE / "task", help="folder of models and prompts")
    args = parser.parse_args(argv)
    if not (args.task / "prompts.json").exists():
        args.task.mkdir(parents=True, exist_ok=True)
        print(_output([sys.executable, "-P", HERE / "task.py", args.task]), file=sys.stderr)
    print(HEADER)
    for model in args.models.split(","):
        for kind in args.kinds.split(","):
            for lengths in args.lengths.split(","):
                setting = SHARED | MODELS[model] | LENGTHS[lengths] | KINDS[kind]
                found = measure(setting, model, args.task, args.repeats, args.sides.split(","))
                print(rows(f"{kind} {model} {lengths}", found, setting), flush=True)


def measure(setting: Setting, model: str, task: Path, repeats: int, only: Sequence[str]) -> Results:
    """Results of each side, or of TRL and those in `only`, the sides in turn in every repeat."""
    from constitute.packaged import model_path

    folder = str(task / str(setting["policy"])) if model == "small" else model_path(model)
    sides = GROUP_SIDES if setting["kind"] == "groups" else PLAIN_SIDES
    if any(only):
        sides = {side: own for side, own in sides.items() if side == "trl" or side in only}
    found: Results = {side: [] for side in sides}
    for _ in range(repeats):
        for side, own in sides.items():
            whole = setting | own | {"model": folder, "prompts": str(task / "prompts.json")}
            command = [sys.executable, "-P", HERE / "peers_side.py", json.dumps(whole)]
            found[side].append(json.loads(_output(command).splitlines()[-1]))
    return found


HEADER = (
    f"{'':>24} {'side':<18} {'seconds':>8} {'CPU s':>7} {'learning':>8} {'GiB':>5} "
    f"{'TRL/it (range)':>19} {'learning':>8} {'CPU':>5}"
)


def rows(name: str, results: Mapping[str, list[dict[str, Any]]], setting: Setting) -> str:
    """A line a side: medians over the repeats, and the ratios to TRL within each repeat."""
    skipped = WARM_UP if setting["kind"] == "groups" else 0

    def mean(run: Mapping[str, Any], what: str) -> float:
        if what == "learning":
            return mean(run, "seconds") - (mean(run, "generate") if "generate" in run else 0.0)
        return statistics.mean(run[what][skipped:])

    lines = []
    for side, runs in results.items():
        middle = {
            what: statistics.median(mean(run, what) for run in runs)
            for what in ("seconds", "cpu", "learning")
        }
        ratios = {
            what: [mean(a, what) / mean(b, what) for a, b in zip(results["trl"], runs, strict=True)]
            for what in middle
        }
        whole = ratios["seconds"]
        spread = f"{statistics.median(whole):.2f} ({min(whole):.2f}-{max(whole):.2f})"
        peak = max(run["peak_gib"] for run in runs)
        lines.append(
            f"{name:>24} {side:<18} {middle['seconds']:8.2f} {middle['cpu']:7.1f} {middle['learning']:8.2f} "
            f"{peak:5.2f} {spread:>19} {statistics.median(ratios['learning']):8.2f} "
            f"{statistics.median(ratios['cpu']):5.2f}"
        )
    if "length" in next(iter(results.values()))[0]:
        means = {side: statistics.mean(run["length"] for run in runs) for side, runs in results.items()}
        lines.append(f"{'':>24} mean tokens " + ", ".join(f"{side} {n:.0f}" for side, n in means.items()))
    elif "loss" in results["ours"][0]:
        lines.append(
            f"{'':>24} first loss " + ", ".join(f"{s} {r[0]['loss']:.5f}" for s, r in results.items())
        )
    lines.append(f"{'':>24} n = {len(results['trl'])} processes a side")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
