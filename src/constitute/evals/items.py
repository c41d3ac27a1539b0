"""Read and write eval sets in the JSONL format of anthropics/evals, byte for byte (arXiv 2212.09251)."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from constitute.errors import DataError, UsageError
from constitute.evals.families import recognise
from constitute.files import BadLine, Row, json_lines, refuse_binary, write_text
from constitute.types import EvalItem

_PERSONA_KEYS = (
    "question",
    "statement",
    "label_confidence",
    "answer_matching_behavior",
    "answer_not_matching_behavior",
)
_KEYS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
# Keys of ours, written where an item has them.
_OWN_KEYS = ("context", "groups")
_LONGEST_NAME = 60


def evals_dir(run_dir: Path) -> Path:
    """Folder of a run's eval sets; results lie in `results/` under it."""
    return run_dir / "evals"


def slug(text: str) -> str:
    """A file name for a behaviour: lower-case words joined by hyphens, at most 60 characters.

    A hash of the text is added where letters were lost, so that two behaviours never share a name by that.
    """
    return _short(re.sub(r"[^a-z0-9]+", "-", _latin(text.casefold())), text)


def file_name(text: str) -> str:
    """Text as a part of a file name: letters, digits, dot, hyphen and underscore; a hash as in `slug`."""
    return _short(re.sub(r"[^A-Za-z0-9._-]+", "-", _latin(text)), text)


def _latin(text: str) -> str:
    """Text with accents taken off its letters."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _short(name: str, text: str) -> str:
    name = name.strip("-.")
    lost = any(c.isalnum() and not c.isascii() for c in _latin(text))
    if name and not lost and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = name[: _LONGEST_NAME - 9].rstrip("-.")
    return f"{kept or 'set'}-{digest}"


def dump_item(item: EvalItem) -> str:
    """One line without its newline: five keys for an item with a statement, three for any other.

    Non-ASCII text is escaped and floats are written in full, as in the released files. Several answers of a
    kind are a list, as those of the released sycophancy files; what else an item has stands in keys of ours.
    """
    keys = _KEYS if item.statement is None else _PERSONA_KEYS
    values = {
        **item.model_dump(include=set(keys)),
        "answer_matching_behavior": _one_or_list(item.answers_matching),
        "answer_not_matching_behavior": _one_or_list(item.answers_not_matching),
    }
    line = {key: values[key] for key in keys}
    own = {"context": item.context, "groups": dict(item.groups)}
    return json.dumps(line | {key: value for key, value in own.items() if value})


def _one_or_list(answers: Sequence[str]) -> str | list[str]:
    return answers[0] if len(answers) == 1 else list(answers)


def dump_items(items: Iterable[EvalItem]) -> str:
    """The whole file: one item a line, each ended by a newline."""
    return "".join(dump_item(item) + "\n" for item in items)


def items_hash(items: Iterable[EvalItem]) -> str:
    """First 16 hex digits of the SHA-256 of the file the items make: two scores are comparable if equal."""
    return hashlib.sha256(dump_items(items).encode()).hexdigest()[:16]


def keep_items(run_dir: Path, items: Sequence[EvalItem]) -> Path:
    """Keep the items that a policy is scored on, so that its answers can be read beside their questions."""
    path = _kept(run_dir, items_hash(items))
    if not path.is_file():
        write_text(path, "".join(item.model_dump_json() + "\n" for item in items))
    return path


def kept_items(run_dir: Path, digest: str) -> list[EvalItem]:
    """The items of that `items_hash`, as they were scored; none where they were not kept.

    Raises `DataError` for a file that is damaged.
    """
    # What follows the hash tells free answers and conversations from scores of labels on the same items.
    path = _kept(run_dir, digest.partition("-")[0])
    if not path.is_file():
        return []
    try:
        return [EvalItem.model_validate_json(line) for line in path.read_bytes().splitlines()]
    except ValidationError:
        raise DataError(f"{path} is damaged; remove it and run `constitute evals run` again") from None


def _kept(run_dir: Path, digest: str) -> Path:
    return evals_dir(run_dir) / "items" / f"{digest}.jsonl"


def read_items(path: Path, limit: int | None = None, family: str | None = None) -> list[EvalItem]:
    """Items of a file, ours or one of anthropics/evals; the id is the line number, from 1.

    Each is of `family`, or of the family that recognises it. Raises `UsageError` where there is no such
    file and `DataError` (file:line) for a broken line.
    """
    if not path.is_file():
        why = "it is a folder" if path.is_dir() else "no such file"
        raise UsageError(f"cannot read eval items from {str(path)!r}: {why}; give a JSONL file")
    refuse_binary(path)
    items: list[EvalItem] = []
    for line in json_lines(path):
        if isinstance(line, BadLine):
            raise DataError(f"{line.where}: {line.reason}; each line must be one JSON object")
        item = _item(line)
        items.append(item.model_copy(update={"family": family or recognise(item)}))
        if len(items) == limit:
            break
    if not items:
        raise DataError(
            f"{path}: no eval items; expected one JSON object a line with the keys {_listed(_KEYS)}"
        )
    return items


def _item(line: Row) -> EvalItem:
    where, row = line
    for key in _KEYS:
        texts = row.get(key) if key != "question" and isinstance(row.get(key), list) else [row.get(key)]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{where}: {key!r} is missing or not text; an item needs {_listed(_KEYS)}")
    statement, confidence = row.get("statement"), row.get("label_confidence")
    if not isinstance(statement, str | None) or not isinstance(confidence, float | int | None):
        raise DataError(f"{where}: 'statement' must be text and 'label_confidence' a number")
    for key in _PERSONA_KEYS:
        if any("\ud800" <= c <= "\udfff" for c in json.dumps(row.get(key), ensure_ascii=False)):
            raise DataError(f"{where}: {key!r} holds half of a character (a lone surrogate); write it anew")
    values = {key: row[key] for key in (*_KEYS, *_OWN_KEYS) if key in row}
    values |= {"statement": statement, "label_confidence": confidence}
    try:
        return EvalItem.model_validate({"id": where.rpartition(":")[2].zfill(5), **values})
    except ValidationError as problem:
        said = str(problem.errors()[0]["msg"]).removeprefix("Value error, ")
        raise DataError(f"{where}: {said}") from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
