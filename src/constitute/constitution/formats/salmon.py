"""SALMON (arXiv 2310.05910): `[{"dimension", "definition", "weight"?}]`."""

from __future__ import annotations

from typing import Any

from constitute.constitution.formats.base import Draft, Format, Found, Source, clean, identity, pretty
from constitute.constitution.read import MAX_WEIGHT, slug
from constitute.errors import DataError
from constitute.types import Constitution


def _detect(source: Source) -> bool:
    value = source.json
    rows = isinstance(value, list) and bool(value)
    return rows and all(isinstance(row, dict) and "definition" in row for row in value)


def _read(source: Source) -> Found:
    notes = []
    if any(row.get("negative_definition") for row in source.json):
        what = "negative_definition is left out; a constitution has no place for it"
        notes.append(f"{source.path}: {what}")
    return Found([_draft(row, source, f"[{i}]") for i, row in enumerate(source.json)], notes=notes)


def _draft(row: dict[str, Any], source: Source, where: str) -> Draft:
    weight = row.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= MAX_WEIGHT:
        what = f"{where}.weight is {weight!r}; write a number from 0 to {MAX_WEIGHT:.0f}"
        raise DataError(f"{source.path}: {what}")
    dimension = row.get("dimension")
    return Draft(
        text=clean(row["definition"], source, f"{where}.definition"),
        id=identity(dimension) if isinstance(dimension, str) else "",
        weight=float(weight),
        source="SALMON, arXiv 2310.05910",
    )


def _write(constitution: Constitution) -> str:
    return pretty(
        [
            {"dimension": _title(p.id), "definition": p.text, "weight": p.weight}
            for p in constitution.principles
        ]
    )


def _title(name: str) -> str:
    """An id as words, where they give the id back."""
    words = name.replace("-", " ").title()
    return words if slug(words) == name else name


SALMON = Format(about="SALMON JSON", detect=_detect, read=_read, write=_write, holds=frozenset({"weight"}))
