"""The stage `label` and the ways to take a vote on a pair; the registry that `label.method` chooses from.

Start at `stage` for what a label is; each method is one module and needs nothing of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from constitute.registry import registered

if TYPE_CHECKING:
    from constitute.stages.labels.base import LabelMethod

# Name -> "module:object" of its `LabelMethod`.
LABEL_METHODS: dict[str, str] = {
    "choice": "constitute.stages.labels.choice:METHOD",
    "rating": "constitute.stages.labels.rating:METHOD",
    "yes_no": "constitute.stages.labels.yes_no:METHOD",
    "likelihood": "constitute.stages.labels.likelihood:METHOD",
    "construction": "constitute.stages.labels.construction:METHOD",
    "reasoned": "constitute.stages.labels.reasoned:METHOD",
}


def label_method(name: str) -> LabelMethod:
    """The method of that name; raises `UsageError` naming the nearest one that exists."""
    method: LabelMethod = registered(LABEL_METHODS, name, "label.method")
    return method
