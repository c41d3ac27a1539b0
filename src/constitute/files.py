"""Write files whole or not at all: a temporary file beside the target, fsync, then rename."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from constitute.errors import StorageError, UsageError


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well and leaves nothing behind otherwise.

    Raises `StorageError` when the disk refuses a write; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as problem:
        if isinstance(problem, StorageError):
            raise
        reason = problem.strerror or str(problem)
        raise StorageError(
            f"cannot write {path}: {reason}; nothing was changed, free the disk or choose another place"
        ) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic(path) as stream:
        stream.write(text.encode("utf-8"))


def write_new(path: Path, text: str, *, force: bool) -> None:
    """Write a file that must not exist yet; `UsageError` names it unless `force`."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists already; give another name, or --force to replace it")
    write_text(path, text)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
