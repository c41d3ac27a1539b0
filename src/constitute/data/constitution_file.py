"""Edit constitution files in place: the whole edit is written, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from constitute.constitution import parse_constitution
from constitute.data.constitution_edit import append, set_value
from constitute.data.constitution_out import number
from constitute.data.files import atomic
from constitute.errors import UsageError
from constitute.parsing import read_bytes
from constitute.types import Principle


def set_in_file(path: Path, principle_id: str, key: str, value: str) -> tuple[str, str] | None:
    """Set one value in a file, whole or not at all; the old and the new, None where they are the same."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}; give a constitution file of yours, not a packaged name")
    data = read_bytes(path)
    old = parse_constitution(data, path)
    edited = set_value(data, principle_id, key, value)
    new = parse_constitution(edited, path)
    before, after = (next(getattr(p, key) for p in c.principles if p.id == principle_id) for c in (old, new))
    if before == after:
        return None
    with atomic(path) as stream:
        stream.write(edited)
    return (number(before), number(after)) if key == "weight" else (before, after)


def append_to_file(path: Path, principles: Sequence[Principle]) -> tuple[int, int]:
    """Append principles to a constitution file; (added, already there). Nothing is written where none is new.

    Raises as `append` does, and `UsageError` where there is no such file.
    """
    if not path.is_file():
        raise UsageError(f"no such file: {path}; `constitute constitution new` makes one")
    data, added, skipped = append(read_bytes(path), principles)
    if added:
        with atomic(path) as stream:
            stream.write(data)
    return added, skipped
