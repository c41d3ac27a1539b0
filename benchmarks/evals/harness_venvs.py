"""Environments of their own for the harnesses that read what `constitute evals export` writes."""

from __future__ import annotations

from pathlib import Path

from benchmarks import venvs

LM_EVAL = "0.4.13"
INSPECT = "0.3.285"
OPENAI_EVALS = "3.0.1"
HELM = "0.5.16"
CACHE = Path.home() / ".cache" / "constitute-benchmarks"
# What the model is loaded with must be what ours is loaded with: only then can figures be the same.
_SAME = ("transformers", "tokenizers", "accelerate", "datasets", "huggingface-hub")


def lm_eval(folder: Path = CACHE / f"lm-eval-{LM_EVAL}") -> Path:
    """The interpreter of an environment with lm-evaluation-harness and its backend for transformers."""
    return venvs.python_of(folder, f"lm-eval[hf,api]=={LM_EVAL}", venvs.pins(_SAME), torch=True)


def inspect(folder: Path = CACHE / f"inspect-{INSPECT}") -> Path:
    """The interpreter of an environment with Inspect and what it needs to ask an OpenAI-compatible server."""
    return venvs.python_of(folder, f"inspect-ai=={INSPECT}", venvs.pins(("openai",)))


def openai_evals(folder: Path = CACHE / f"openai-evals-{OPENAI_EVALS}") -> Path:
    """The interpreter of an environment with openai/evals, which would take a `datasets` that is too old."""
    return venvs.python_of(folder, f"evals=={OPENAI_EVALS}", ["datasets>=2.14"])


def helm(folder: Path = CACHE / f"helm-{HELM}") -> Path:
    """The interpreter of an environment with HELM."""
    return venvs.python_of(folder, f"crfm-helm=={HELM}", torch=True)
