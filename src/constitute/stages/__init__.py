"""The data stages: generate, critique and revise, label; and the registry that the chain is built from.

Start at `base` for what a stage is; each stage is one module of pure async functions.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from constitute.errors import UsageError

if TYPE_CHECKING:
    from constitute.stages.base import StageSpec

# Name -> "module:object" of its `StageSpec`.
STAGES: dict[str, str] = {
    "generate": "constitute.stages.generate:STAGE",
    "revise": "constitute.stages.revise:STAGE",
    "label": "constitute.stages.label:STAGE",
}


def stage_spec(name: str) -> StageSpec:
    """The stage of that name; raises `UsageError` naming the nearest one that exists."""
    if name not in STAGES:
        near = get_close_matches(name, STAGES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(STAGES)}"
        raise UsageError(f"no such stage: {name!r}; {hint}")
    module, attribute = STAGES[name].split(":")
    spec: StageSpec = getattr(import_module(module), attribute)
    return spec
