"""The registry of openai/evals: a YAML entry and samples, scored by the beginning of the model's answer."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from constitute.evals.exports.base import SetFormat, in_fixed_order, json_text, task_name
from constitute.evals.families.persona import has_labels
from constitute.templates import render
from constitute.types import EvalItem


def files(name: str, items: Sequence[EvalItem]) -> dict[str, str]:
    """The entry under `evals/` and its samples under `data/`, as `--registry_path` has them."""
    task = task_name(name)
    entry = (
        f"{task}:\n  id: {task}.dev.v0\n  metrics: [accuracy]\n"
        f"{task}.dev.v0:\n  class: evals.elsuite.basic.match:Match\n"
        f"  args:\n    samples_jsonl: {task}/samples.jsonl\n"
    )
    samples = json_text(_sample(in_fixed_order(item)) for item in items)
    return {f"evals/{task}.yaml": entry, f"data/{task}/samples.jsonl": samples}


def _sample(item: EvalItem) -> dict[str, Any]:
    if has_labels(item):
        labels, asked = [text.strip() for text in item.options], item.question
    else:
        labels = [f"({ascii_uppercase[at]})" for at in range(len(item.options))]
        shown = (f"{label} {text.strip()}" for label, text in zip(labels, item.options, strict=True))
        asked = "\n\n".join([item.question, *shown])
    turns = [
        {"role": "system", "content": render("evals_labels", labels=labels)},
        {"role": "user", "content": asked},
    ]
    ideal = [said for at in item.matching for said in spoken(labels[at])]
    return {"input": turns, "ideal": ideal}


def spoken(label: str) -> list[str]:
    """How an answer may begin that gives a label.

    The program asks whether the answer starts with one of them and strips nothing. A bare letter is not among
    them: every word that begins with it would count.
    """
    bare = label.strip("()")
    if len(bare) > 1:
        return [bare.capitalize(), bare.lower(), bare.upper()]
    return [f"({bare})", f"{bare})", f"{bare}.", f"{bare}:"]


FORMAT = SetFormat(
    about="registry of openai/evals",
    files=files,
    command="oaieval MODEL {task} --registry_path {out}",
)
