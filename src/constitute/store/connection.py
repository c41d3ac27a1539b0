"""Connect to a run's SQLite file, and say in one sentence what the disk or SQLite refuses."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from constitute.errors import StorageError

# What SQLite keeps beside a file: commits that are not in it yet, and what an unfinished commit replaced.
_BESIDE = ("-wal", "-journal")
_DAMAGED = ("not a database", "malformed", "no such table", "no such column", "decode to UTF-8", "corrupt")


def connect(path: Path, readonly: bool) -> sqlite3.Connection:
    """A connection in autocommit: each statement is committed when it returns. Raises `StorageError`."""
    if readonly:
        with storage(path), readable(path) as uri:
            connection = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)
            # The file is opened now, while the copy that `uri` may name still exists.
            connection.execute("PRAGMA schema_version")
            return connection
    if path.is_symlink():
        raise StorageError(f"{path} is a link, and nothing is written through it; name its own folder")
    with storage(path):
        uri = path.resolve().as_uri()
        return sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False)


@contextmanager
def readable(path: Path) -> Iterator[str]:
    """The URI of a database that holds every commit of the file at `path`; open it within the block.

    SQLite cannot read a write-ahead log in a folder that it cannot write to. Where the log holds something,
    the URI is that of a copy, whose name is removed when the block ends. Raises `StorageError` where the
    file changes while it is copied.
    """
    uri = path.resolve().as_uri()
    try:
        sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=30).execute("PRAGMA schema_version").close()
    except sqlite3.OperationalError as problem:
        if problem.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    else:
        yield f"{uri}?mode=ro"
        return
    if not unmerged(path):
        yield f"{uri}?immutable=1"
        return
    with TemporaryDirectory(prefix="constitute-") as folder:
        yield f"{_merged_copy(path.resolve(), Path(folder)).as_uri()}?immutable=1"


def unmerged(path: Path) -> list[Path]:
    """The files beside the database that hold a part of what it says; none after a clean end."""
    beside = [path.resolve().with_name(path.resolve().name + suffix) for suffix in _BESIDE]
    return [each for each in beside if each.is_file() and each.stat().st_size > 0]


def _merged_copy(path: Path, folder: Path) -> Path:
    """A copy of the database in `folder` with everything that stood beside it merged in."""
    before = _state(path)
    for file in (path, *unmerged(path)):
        shutil.copyfile(file, folder / file.name)
    if _state(path) != before:
        raise StorageError(f"{path} is being written by another process; wait for it, then try again")
    copy = folder / path.name
    connection = sqlite3.connect(copy, isolation_level=None)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.close()
    return copy


def _state(path: Path) -> list[tuple[str, int, int]]:
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in (path, *unmerged(path))]


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk say into one sentence."""
    try:
        yield
    except (StorageError, sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.DatabaseError as problem:
        raise StorageError(_sentence(path, str(problem))) from problem
    except OSError as problem:
        raise StorageError(_sentence(path, problem.strerror or str(problem))) from problem


def damaged(path: Path, problem: str) -> StorageError:
    """The error for a file that is no run's, or whose content was changed by something else."""
    return StorageError(f"{path} is not a run's file or is damaged ({problem}); give another --run DIR")


def _sentence(path: Path, problem: str) -> str:
    if any(sign in problem for sign in _DAMAGED):
        return str(damaged(path, problem))
    return (
        f"cannot write or read {path}: {problem}; everything acknowledged is kept: free some space or "
        "make the folder writable, then run the same command again"
    )
