"""constitute: reinforcement learning from AI feedback under a written constitution.

The names below are the public ones; each is imported on first use, so `import constitute` is cheap.

Importing it sets GOMP_SPINCOUNT for this process and its children, unless GOMP_SPINCOUNT or OMP_WAIT_POLICY
is set already: how long one of torch's threads spins before it sleeps, while it waits for the others.
OpenMP reads it when torch is imported, so in a notebook that imported torch first it has no effect.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# How often a waiting thread looks before it sleeps. OpenMP's own 300,000 are ruinous beside a busy process,
# none at all cost a third of the speed where there is no such process. `generate` on pocket, 2 threads on
# 2 cores, 2 runs each, rows/s alone and beside a busy process: default 85, 89 and 34, 26; 10,000: 74, 42 and
# 45, 27; 1,000: 70, 71 and 69, 40; 0: 59, 56 and 72, 68.
SPIN_COUNT = "1000"
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)

_PUBLIC = {
    "load_constitution": "constitute.constitution.read",
    "load_config": "constitute.config",
    "read_prompts": "constitute.data.prompts",
    "open_engine": "constitute.engines",
    "run_stages": "constitute.pipeline",
    "export_run": "constitute.data.export",
    "run_sft": "constitute.train.sft",
    "run_reward": "constitute.train.reward.train",
    "run_ppo": "constitute.train.ppo.start",
    "run_dpo": "constitute.train.dpo",
    "run_best_of_n": "constitute.train.best_of_n.run",
    "write_sets": "constitute.evals.write",
    "run_sets": "constitute.evals.run",
    "write_report": "constitute.report.build",
    "Store": "constitute.store",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'constitute' has no attribute {name!r}; public: {', '.join(_PUBLIC)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
