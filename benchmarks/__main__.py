"""Run every benchmark, or those named: `python -m benchmarks [NAME ...]`; `train` takes options.

Those on the real model (`real.…`) run by name alone: they need `constitute fetch` first. So do those beside
other toolkits (`data.speed…`), which need files of their own.
"""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = {
    "pipeline": "benchmarks.pipeline",
    "labels": "benchmarks.labels",
    "adaptive": "benchmarks.adaptive",
    "rating": "benchmarks.rating",
    "score": "benchmarks.score",
    "edits": "benchmarks.edits",
    "editing.inversion": "benchmarks.editing.inversion",
    "editing.preview": "benchmarks.editing.preview",
    "editing.lint_model": "benchmarks.editing.lint_model",
    "editing.attribution": "benchmarks.editing.attribution",
    "editing.prose": "benchmarks.editing.prose",
    "data.large": "benchmarks.data.large",
    "evals.agreement": "benchmarks.evals.agreement",
    "evals.programs": "benchmarks.evals.programs",
    "evals.released": "benchmarks.evals.released",
    "evals.written": "benchmarks.evals.written",
    "neighbour": "benchmarks.neighbour",
    "data.speed": "benchmarks.data.speed.run",
    "data.speed.table": "benchmarks.data.speed.table",
    "data.speed.faults": "benchmarks.data.speed.faults",
    "data.speed.overhead": "benchmarks.data.speed.overhead",
    "real.effect": "benchmarks.real.effect",
    "real.recover": "benchmarks.real.recover",
    "real.responses": "benchmarks.real.responses",
    "real.lm_eval": "benchmarks.evals.lm_eval",
    "train": "benchmarks.train.ppo",
    "train.peers": "benchmarks.train.peers",
    "train.nlpo": "benchmarks.train.nlpo",
    "train.reward_step": "benchmarks.train.reward_step",
    "train.sizes": "benchmarks.train.sizes",
    "train.demo_seeds": "benchmarks.train.demo_seeds",
    "train.methods": "benchmarks.train.methods",
}
WITHOUT_OPTIONS = ("pipeline", "train.reward_step")


def main(arguments: list[str]) -> None:
    """Run the benchmarks in turn; each prints its own table. Options go to the one named."""
    names = [argument for argument in arguments if argument in BENCHMARKS]
    options = arguments[len(names) :]
    if arguments[: len(names)] != names or (options and (len(names) != 1 or names[0] in WITHOUT_OPTIONS)):
        sys.exit(f"no such benchmark or option: {' '.join(arguments)}; known: {', '.join(BENCHMARKS)}")
    for name in names or [each for each in BENCHMARKS if not each.startswith(("real.", "data.speed"))]:
        module = import_module(BENCHMARKS[name])
        module.main() if name in WITHOUT_OPTIONS else module.main(options)


if __name__ == "__main__":
    main(sys.argv[1:])
