"""Tasks of EleutherAI's lm-evaluation-harness: two a set, scored by log-probabilities.

`constitute_SET` asks as anthropics/evals does, "Human: …", with the label's leading blank: for a model
without a chat template. `constitute_SET_chat` goes with `--apply_chat_template`, and asks what `evals run`
asks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from constitute.evals.exports.base import SetFormat, in_fixed_order, json_text, origin, task_name
from constitute.types import EvalItem


def files(name: str, items: Sequence[EvalItem]) -> dict[str, str]:
    """Two tasks in YAML, each with its rows beside it."""
    ordered = [in_fixed_order(item) for item in items]
    texts: dict[str, str] = {}
    for task, asked, chat in (
        (task_name(name), "Human: {{question}}\n\nAssistant:", False),
        (f"{task_name(name)}_chat", "{{question}}", True),
    ):
        several = any(len(item.matching) > 1 for item in ordered)
        rows = [_row(item, several=several, chat=chat) | origin(name, items) for item in ordered]
        texts[f"{task}.jsonl"] = json_text(rows)
        texts[f"{task}.yaml"] = _yaml(_task(task, asked, several=several))
    return texts


def _row(item: EvalItem, *, several: bool, chat: bool) -> dict[str, Any]:
    choices = [text.removeprefix(" ") if chat else text for text in item.options]
    gold: list[int] | int = list(item.matching) if several else item.matching[0]
    row = {"id": item.id, "question": item.question, "choices": choices, "gold": gold}
    return row | ({"context": item.context} if item.context else {})


def _task(task: str, asked: str, *, several: bool) -> dict[str, Any]:
    # The harness compares acc_mutual_info with one right answer only, and fails on a list.
    metrics = ["acc"] if several else ["acc", "acc_mutual_info"]
    return {
        "task": task,
        "tag": "constitute",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{task}.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": asked,
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": False} for m in metrics],
        "metadata": {"version": 1.0},
    }


def _yaml(task: dict[str, Any]) -> str:
    """YAML with JSON's notation for values, which every reader of YAML takes the same way."""
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in task.items())


FORMAT = SetFormat(
    about="tasks of lm-evaluation-harness",
    files=files,
    command="cd {out} && lm_eval run --model hf --model_args pretrained=MODEL,dtype=float32 --include_path . "
    "--tasks {task}_chat --apply_chat_template --log_samples --output_path results",
)
