"""Instances of HELM's custom_mcqa scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from constitute.evals.exports.base import SetFormat, in_fixed_order, json_text
from constitute.types import EvalItem


def files(name: str, items: Sequence[EvalItem]) -> dict[str, str]:
    """One file of instances."""
    return {f"{name}.helm.jsonl": json_text(_instance(in_fixed_order(item)) for item in items)}


def _instance(item: EvalItem) -> dict[str, Any]:
    references = [
        {"output": {"text": text.strip()}, "tags": ["correct"] if at in item.matching else []}
        for at, text in enumerate(item.options)
    ]
    return {"id": item.id, "input": {"text": item.question}, "references": references, "split": "test"}


FORMAT = SetFormat(
    about="instances of HELM's custom_mcqa",
    files=files,
    command="helm-run --suite constitute --max-eval-instances 1000 --run-entries "
    "custom_mcqa:path={out}/{name}.helm.jsonl,num_train_instances=0,"
    "method=multiple_choice_separate_original,model=MODEL",
)
