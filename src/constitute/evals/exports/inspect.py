"""A data set and a task file of the UK AISI's Inspect.

Sets of labels are asked as they are: `logprobs` reads the log-probabilities of the first tokens, `answers`
the label that was said. Replies become options with letters, one of which the model is to name: another
measurement than ours, which compares the probabilities of the whole replies. No chat interface gives these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from constitute.errors import DataError
from constitute.evals.exports.base import SetFormat, in_fixed_order, json_text, origin, task_name
from constitute.evals.families.persona import has_labels
from constitute.templates import render
from constitute.types import EvalItem

_TASKS = Path(__file__).parent / "inspect_tasks"


def files(name: str, items: Sequence[EvalItem]) -> dict[str, str]:
    """The rows and a file of tasks that reads the rows beside it."""
    labelled = all(map(has_labels, items))
    source = _TASKS / ("labels.py" if labelled else "replies.py")
    rows = [_row(in_fixed_order(item), labelled) for item in items]
    for row in rows:
        row["metadata"] |= origin(name, items)
    task = task_name(name)
    return {f"{task}.jsonl": json_text(rows), f"{task}.py": source.read_text(encoding="utf-8")}


def _row(item: EvalItem, labelled: bool) -> dict[str, Any]:
    labels = [text.strip() for text in item.options]
    metadata: dict[str, Any] = {"labels": labels, "matching": list(item.matching), "context": item.context}
    row: dict[str, Any] = {"id": item.id, "input": item.question, "metadata": metadata}
    if labelled:
        metadata["instruction"] = render("evals_labels", labels=labels)
        return row | {"target": [labels[at] for at in item.matching]}
    if not all(labels):
        raise DataError(f"item {item.id} has an empty reply, which Inspect would drop; take the item out")
    return row | {"choices": labels, "target": [ascii_uppercase[at] for at in item.matching]}


FORMAT = SetFormat(
    about="a data set and tasks of Inspect",
    files=files,
    command="inspect eval {out}/{task}.py --model openai-api/local/MODEL",
)
