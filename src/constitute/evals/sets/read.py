"""Turn the rows of a public eval set into items, as its spec says."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from constitute.data.rows import read_rows
from constitute.errors import DataError
from constitute.evals.sets.prepare import PREPARE
from constitute.evals.sets.spec import Options, SetSpec, fill, value_at
from constitute.files import BadLine, Row, json_object, read_json
from constitute.registry import registered
from constitute.types import EvalItem

# Answers' families by what they are.
_FAMILIES = {"labels": "persona", "texts": "reply"}


def read_set(path: Path, spec: SetSpec, limit: int | None = None) -> list[EvalItem]:
    """The items of a file. Raises `DataError` (file:line) for a row that the spec does not fit."""
    rows = _rows(path, spec)
    if spec.prepare:
        rows = registered(PREPARE, spec.prepare, "preparation of rows")(rows)
    items: list[EvalItem] = []
    for number, row in enumerate(rows, 1):
        items.append(_item(row, spec, f"{number:05d}"))
        if len(items) == limit:
            break
    if not items:
        raise DataError(f"{path}: no rows; give a file of {spec.title}")
    return items


def _rows(path: Path, spec: SetSpec) -> Iterator[Row]:
    if spec.rows is not None:
        whole = read_json(path)
        listed = whole.get(spec.rows) if isinstance(whole, dict) else None
        if not isinstance(listed, list):
            raise DataError(f"{path}: no list under {spec.rows!r}; give a JSON file of {spec.title}")
        found: Iterator[Row | BadLine] = (
            json_object(f"{path}: {spec.rows} {number}", value) for number, value in enumerate(listed, 1)
        )
    else:
        found = read_rows(path)
    for row in found:
        if isinstance(row, BadLine):
            raise DataError(f"{row.where}: {row.reason}; mend the line")
        yield row


def _item(row: Row, spec: SetSpec, identifier: str) -> EvalItem:
    try:
        options = _options(row.value, spec)
        matching = _matching(row.value, spec, options)
        labels = tuple(f" ({letter})" for letter in string.ascii_uppercase[: len(options)])
        listed = "\n".join(f"{label} {text.strip()}" for label, text in zip(labels, options, strict=False))
        values = {**row.value, "choices": listed} if spec.lettered else row.value
        return EvalItem(
            id=identifier,
            question=fill(spec.question, values),
            options=labels if spec.lettered else options,
            matching=matching,
            behavior=spec.behavior,
            family=_FAMILIES[spec.answers],
            context=_context(spec, values),
            groups=_groups(spec, values),
        )
    except KeyError as missing:
        raise DataError(
            f"{row.where}: no column {missing.args[0]!r}, which {spec.title} needs; "
            f"the row has {', '.join(map(repr, row.value)) or 'none'}"
        ) from None
    except ValidationError as problem:
        said = str(problem.errors()[0]["msg"]).removeprefix("Value error, ")
        raise DataError(f"{row.where}: {said}") from None
    except ValueError as problem:
        raise DataError(f"{row.where}: {problem}") from None


def _groups(spec: SetSpec, row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for kind, part in spec.groups.items():
        try:
            found.append((kind, fill(part, row)))
        except KeyError as empty:
            value_at(row, empty.args[0])  # An empty column says nothing; a missing one raises.
    return tuple(found)


def _context(spec: SetSpec, row: Mapping[str, Any]) -> str:
    context = fill(spec.context, row)
    return context.split(spec.context_before)[0] if spec.context_before else context


def _options(row: Mapping[str, Any], spec: SetSpec) -> tuple[str, ...]:
    if not isinstance(spec.options, Options):
        return tuple(fill(text, row) for text in spec.options)
    blank = " " if spec.answers == "texts" else ""
    return tuple(
        blank + text.strip() if blank else text
        for name in spec.options.columns
        for text in _texts(value_at(row, name), name)
    )


def _texts(value: Any, name: str) -> list[str]:
    """A text alone, a list of texts, or the keys of a mapping."""
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | dict) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"column {name!r} holds no text and no list of texts")
    return texts


def _matching(row: Mapping[str, Any], spec: SetSpec, options: Sequence[str]) -> tuple[int, ...]:
    rule = spec.matching
    if isinstance(rule.place, int):
        return (rule.place,)
    if rule.place is not None:
        return (_whole(value_at(row, rule.place), rule.place),)
    if rule.letter is not None:
        return (string.ascii_uppercase.index(str(value_at(row, rule.letter)).strip(" ().").upper()),)
    if rule.flags is not None:
        flags = value_at(row, rule.flags)
        flags = list(flags.values()) if isinstance(flags, dict) else flags
        if not isinstance(flags, list) or len(flags) != len(options):
            raise ValueError(f"column {rule.flags!r} needs a 0 or 1 for each of the {len(options)} options")
        return tuple(place for place, flag in enumerate(flags) if float(flag) > 0)
    assert rule.column is not None
    right = {text.strip() for text in _texts(value_at(row, rule.column), rule.column)}
    return tuple(place for place, text in enumerate(options) if text.strip() in right)


def _whole(value: Any, name: str) -> int:
    try:
        if isinstance(value, bool) or float(value) != int(float(value)):
            return int(bool(value))
        return int(float(value))
    except (TypeError, ValueError):
        raise ValueError(f"column {name!r} is {value!r}, not the place of an option") from None
