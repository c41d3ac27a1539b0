"""Score every policy that a training kept, one after the other, each under its step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.errors import GateFailed
from constitute.evals.items import file_name
from constitute.evals.run import SetResult, run_sets


def step_policies(name: str, kept: Mapping[int, Path]) -> dict[str, Path]:
    """Names such as `ppo-step-40` of the policies `kept` by the steps they were trained for, in order."""
    return {file_name(f"{name}-step-{step}"): kept[step] for step in sorted(kept)}


def run_policies(
    config: RunConfig, policies: Mapping[str, Path], files: Sequence[Path] = (), **how: Any
) -> list[SetResult]:
    """Score each policy, by its name and its model's folder, as `run_sets`.

    A set on which one policy fails its gate stops no other; their sentences are raised together at the end.
    """
    results: list[SetResult] = []
    failures: list[str] = []
    for name, folder in policies.items():
        own = config.model_copy(update={"model": str(folder)})
        try:
            results += run_sets(own, files, policy=name, **how)
        except GateFailed as failure:
            failures.append(f"{name}: {failure}")
    if failures:
        raise GateFailed("; ".join(failures))
    return results
