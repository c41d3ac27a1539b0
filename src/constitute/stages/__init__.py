"""The data stages: generate, critique and revise, filter, label; and their registry.

Start at `base` for what a stage is; each stage is one module of pure async functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitute.registry import registered

if TYPE_CHECKING:
    from constitute.stages.base import StageSpec

# Name -> "module:object" of its `StageSpec`.
STAGES: dict[str, str] = {
    "generate": "constitute.stages.generate:STAGE",
    "contrast": "constitute.stages.contrast:STAGE",
    "revise": "constitute.stages.revise:STAGE",
    "filter": "constitute.stages.filters.stage:STAGE",
    "label": "constitute.stages.labels.stage:STAGE",
}


def stage_spec(name: str) -> StageSpec:
    """The stage of that name; raises `UsageError` naming the nearest one that exists."""
    spec: StageSpec = registered(STAGES, name, "stage")
    return spec
