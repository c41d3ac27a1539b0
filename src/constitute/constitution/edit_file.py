"""Edit constitution files in place: the whole edit is written, or nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from constitute.constitution.edit import append, set_value
from constitute.constitution.read import parse_constitution
from constitute.constitution.write import number, to_yaml
from constitute.errors import DataError, UsageError
from constitute.files import atomic
from constitute.strict_yaml import MAX_BYTES, read_bytes
from constitute.types import Constitution, Principle


def set_in_file(path: Path, principle_id: str, key: str, value: str) -> tuple[str, str] | None:
    """Set one value in a file, whole or not at all; the old and the new, None where they are the same."""
    data = _read(path)
    old = parse_constitution(data, path)
    edited = set_value(data, principle_id, key, value)
    new = parse_constitution(edited, path)
    before, after = (next(getattr(p, key) for p in c.principles if p.id == principle_id) for c in (old, new))
    if before == after:
        return None
    _write(path, edited)
    return (number(before), number(after)) if key == "weight" else (before, after)


def append_to_file(path: Path, principles: Sequence[Principle]) -> tuple[int, int]:
    """Append principles to a constitution file; (added, already there). Nothing is written where none is new.

    Raises as `append` does, and `UsageError` where there is no such file.
    """
    data = _read(path)
    parse_constitution(data, path)
    try:
        edited, added, skipped = append(data, principles)
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None
    if added:
        _write(path, edited)
    return added, skipped


def loadable(constitution: Constitution) -> str:
    """The constitution as YAML that loads as the same; `DataError` where no file can hold it."""
    text = to_yaml(constitution)
    if len(text.encode()) > MAX_BYTES:
        raise DataError(f"the constitution would be larger than {MAX_BYTES:,} bytes; take fewer principles")
    if parse_constitution(text.encode(), "the result") != constitution:
        raise DataError("the constitution would not be read back as it is; report this with its file")
    return text


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UsageError(f"no such file: {path}; give one of yours, or make one with constitution new")
    return read_bytes(path)


def _write(path: Path, data: bytes) -> None:
    """Replace a file whole or not at all; its permissions stay, and a link to it stays a link."""
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} would be larger than {MAX_BYTES:,} bytes; nothing was changed")
    target = path.resolve()
    mode = stat.S_IMODE(target.stat().st_mode)
    with atomic(target) as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(data)
