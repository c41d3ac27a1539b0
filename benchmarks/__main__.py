"""Run every benchmark, or those named: `python -m benchmarks [NAME ...]`; `train` takes options."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = {
    "pipeline": "benchmarks.pipeline",
    "labels": "benchmarks.labels",
    "edits": "benchmarks.edits",
    "editing.inversion": "benchmarks.editing.inversion",
    "editing.preview": "benchmarks.editing.preview",
    "train": "benchmarks.train.ppo",
    "train.reward_step": "benchmarks.train.reward_step",
}
WITH_OPTIONS = ("train", "labels", "edits", "editing.inversion", "editing.preview")


def main(arguments: list[str]) -> None:
    """Run the benchmarks in turn; each prints its own table. Options go to the one named."""
    names = [argument for argument in arguments if argument in BENCHMARKS]
    options = arguments[len(names) :]
    if arguments[: len(names)] != names or (options and names not in ([name] for name in WITH_OPTIONS)):
        sys.exit(f"no such benchmark or option: {' '.join(arguments)}; known: {', '.join(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        module = import_module(BENCHMARKS[name])
        module.main(options) if name in WITH_OPTIONS else module.main()


if __name__ == "__main__":
    main(sys.argv[1:])
