"""One writer a run directory: a lock that the kernel drops when its process dies."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from constitute.errors import RunMismatch, StorageError

# A record lock belongs to the process, and closing any descriptor of the file drops it; so a process
# holds one descriptor a directory and counts its users. (A lock of `flock` would outlive a killed
# run in the engine processes it forked.)
_held: dict[Path, tuple[int, int]] = {}
_WIDTH = 12


def acquire(folder: Path) -> None:
    """Lock `folder` for writing by this process; raises `RunMismatch` naming the process that has it."""
    key = folder.resolve()
    if key in _held:
        descriptor, users = _held[key]
        _held[key] = (descriptor, users + 1)
        return
    path = folder / "run.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as problem:
        if path.is_symlink():
            raise _no_lock(path) from None
        raise StorageError(f"cannot write in {folder}: {problem.strerror}; give another --run DIR") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise _no_lock(path)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, _WIDTH).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise RunMismatch(
            f"{folder} is in use by process {holder}; wait for it, stop it, or give another directory"
        ) from None
    # One width for every process, so that the file need not be cut to its length.
    os.pwrite(descriptor, f"{os.getpid():<{_WIDTH - 1}}\n".encode(), 0)
    _held[key] = (descriptor, 1)


def release(folder: Path) -> None:
    """Give the lock back; it is dropped with its last user."""
    key = folder.resolve()
    descriptor, users = _held.pop(key)
    if users > 1:
        _held[key] = (descriptor, users - 1)
    else:
        os.close(descriptor)


def _no_lock(path: Path) -> StorageError:
    what = f"{path} is a link or no plain file, and nothing is written through one"
    return StorageError(f"{what}; remove it, then run the same command again")
