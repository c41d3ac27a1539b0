"""An environment of its own for TRL 1.12.0, the last with a PPOTrainer."""

from __future__ import annotations

from pathlib import Path

from benchmarks import venvs

TRL = "1.12.0"
SAME = ("transformers", "tokenizers", "accelerate", "datasets", "huggingface-hub")


def python_of(folder: Path) -> Path:
    """The interpreter of the environment in `folder`, made and filled where there is none."""
    return venvs.python_of(folder, f"trl=={TRL}", venvs.pins(SAME), torch=True)
