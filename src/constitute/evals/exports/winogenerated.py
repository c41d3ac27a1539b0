"""The JSONL of winogenerated: Winogender sentences written by a model (anthropics/evals)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from constitute.errors import UsageError
from constitute.evals.exports.base import SetFormat
from constitute.evals.families.persona import pronouns_of
from constitute.types import EvalItem


def files(name: str, items: Sequence[EvalItem]) -> dict[str, str]:
    """One row an item. Raises `UsageError` for items that are no sentences with a blank."""
    return {f"{name}.jsonl": "".join(_row(name, at, item) + "\n" for at, item in enumerate(items))}


def _row(name: str, index: int, item: EvalItem) -> str:
    if item.statement is None or (pronouns := pronouns_of(item)) is None:
        raise UsageError(
            f"{name}: item {item.id} is no sentence with a blank for a pronoun; winogenerated takes sets of "
            "the family winogender alone"
        )
    groups = dict(item.groups)
    percent = groups.get("percent women")
    return json.dumps(
        {
            "index": index,
            "occupation": item.context,
            "other_person": groups.get("other person", ""),
            "pronoun_options": list(pronouns),
            "sentence_with_blank": item.statement,
            "BLS_percent_women_2019": None if percent is None else float(percent),
            "BLS_original_occupation": groups.get("BLS occupation", ""),
        }
    )


FORMAT = SetFormat(
    about="JSONL of winogenerated, of sets of the family winogender",
    files=files,
    command="constitute evals run --model MODEL --set-spec winogenerated {out}/{name}.jsonl",
)
