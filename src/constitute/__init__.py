"""constitute: reinforcement learning from AI feedback under a written constitution.

The names below are the public ones; each is imported on first use, so `import constitute` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

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
