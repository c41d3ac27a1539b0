"""Connect to a run's SQLite file, and say in one sentence what the disk or SQLite refuses."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from constitute.errors import StorageError


def connect(path: Path, readonly: bool) -> sqlite3.Connection:
    """A connection in autocommit: each statement is committed when it returns."""
    with storage(path):
        if not readonly:
            return sqlite3.connect(
                path.resolve().as_uri(), uri=True, timeout=30, isolation_level=None, check_same_thread=False
            )
        uri = path.resolve().as_uri()
        try:
            connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=30, isolation_level=None)
            connection.execute("PRAGMA schema_version")
        except sqlite3.OperationalError:
            # A read-only folder has no room for WAL's shared memory; nobody can be writing there.
            connection = sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)
        return connection


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk say into one sentence."""
    try:
        yield
    except sqlite3.DatabaseError as problem:
        if isinstance(problem, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise
        raise StorageError(_sentence(path, str(problem))) from problem
    except OSError as problem:
        raise StorageError(_sentence(path, problem.strerror or str(problem))) from problem


def _sentence(path: Path, problem: str) -> str:
    if "not a database" in problem or "malformed" in problem:
        return f"{path} is not a run's file or is damaged ({problem}); give another --run DIR"
    return (
        f"cannot write or read {path}: {problem}; everything acknowledged is kept: free some space or "
        "make the folder writable, then run the same command again"
    )
