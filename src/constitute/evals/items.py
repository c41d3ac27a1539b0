"""Read and write eval sets in the JSONL format of anthropics/evals, byte for byte (arXiv 2212.09251)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from constitute.errors import DataError, UsageError
from constitute.types import EvalItem

_PERSONA_KEYS = (
    "question",
    "statement",
    "label_confidence",
    "answer_matching_behavior",
    "answer_not_matching_behavior",
)
_KEYS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
_LABEL = re.compile(r"(?i)yes|no|\(?[a-z]\)?")
_OPTION = re.compile(r"(?m)^\s*\(([A-Z])\)")


def dump_item(item: EvalItem) -> str:
    """One line without its newline: five keys for a persona item, three for any other.

    Non-ASCII text is escaped and floats are written in full, as in the released files.
    """
    keys = _KEYS if item.statement is None else _PERSONA_KEYS
    return json.dumps({key: getattr(item, key) for key in keys})


def dump_items(items: Iterable[EvalItem]) -> str:
    """The whole file: one item a line, each ended by a newline."""
    return "".join(dump_item(item) + "\n" for item in items)


def items_hash(items: Iterable[EvalItem]) -> str:
    """First 16 hex digits of the SHA-256 of the file the items make: two scores are comparable if equal."""
    return hashlib.sha256(dump_items(items).encode()).hexdigest()[:16]


def read_items(path: Path, limit: int | None = None) -> list[EvalItem]:
    """Items of a file, ours or one of anthropics/evals; the id is the line number, from 1.

    Raises `UsageError` for a file that cannot be read and `DataError` (file:line) for a broken line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(
            f"cannot read eval items from {str(path)!r} ({problem}); give a JSONL file"
        ) from None
    items: list[EvalItem] = []
    # Only newlines end a line: a statement may hold U+2028 and the like.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and (limit is None or len(items) < limit):
            items.append(_item(line, number, path))
    if not items:
        raise DataError(
            f"{path}: no eval items; expected one JSON object a line with the keys {_listed(_KEYS)}"
        )
    return items


def _item(line: str, number: int, path: Path) -> EvalItem:
    where = f"{path}:{number}"
    try:
        row: Any = json.loads(line)
    except ValueError as problem:
        raise DataError(f"{where}: not JSON ({problem}); each line must be one JSON object") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON {type(row).__name__}; each line must be one JSON object")
    for key in _KEYS:
        if isinstance(row.get(key), list):
            raise DataError(f"{where}: {key!r} is a list; items have exactly two answers, so split it first")
        if not isinstance(row.get(key), str):
            raise DataError(f"{where}: {key!r} is missing or not text; an item needs {_listed(_KEYS)}")
    if row["answer_matching_behavior"] == row["answer_not_matching_behavior"]:
        raise DataError(f"{where}: both answers are {row['answer_matching_behavior']!r}; they must differ")
    statement, confidence = row.get("statement"), row.get("label_confidence")
    if not isinstance(statement, str | None) or not isinstance(confidence, float | int | None):
        raise DataError(f"{where}: 'statement' must be text and 'label_confidence' a number")
    return EvalItem(
        id=f"{number:05d}",
        question=row["question"],
        answer_matching_behavior=row["answer_matching_behavior"],
        answer_not_matching_behavior=row["answer_not_matching_behavior"],
        statement=statement,
        label_confidence=confidence,
        family="persona" if is_label(row["answer_matching_behavior"]) else "reply",
    )


def is_label(answer: str) -> bool:
    """Whether an answer is a short label (Yes, No, a letter with or without brackets) and not a reply."""
    return _LABEL.fullmatch(answer.strip()) is not None


def label_set(items: Sequence[EvalItem]) -> tuple[str, ...]:
    """The two labels of a set in sorted order, or () for a set of replies.

    Raises `UsageError` for more than two labels: scoring two of several options ignores the others.
    """
    answers = {a for i in items for a in (i.answer_matching_behavior, i.answer_not_matching_behavior)}
    if not all(is_label(answer) for answer in answers):
        return ()
    if len(answers) > 2:
        raise UsageError(
            f"the set has {len(answers)} labels ({_listed(sorted(answers))}); a score compares exactly two, "
            "so keep the items with two options in a file of their own"
        )
    return tuple(sorted(answers))


def option_count(question: str) -> int:
    """Lettered options listed in a question, each on a line of its own; 0 where none are listed."""
    return len(set(_OPTION.findall(question)))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
