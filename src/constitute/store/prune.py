"""What a run directory no longer needs: states of trainings that ended, and what killed writers left.

Rows, answers, configuration, sets, results, figures and trained models are never among it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from constitute.errors import StorageError, UsageError
from constitute.store.sqlite import FILE_NAME

# A training that ended wrote it last.
_RECORD = "training.json"
# What `files.atomic` and `files.atomic_folder` fill before it gets its name.
_LEFT = re.compile(r"\..+\.[0-9a-f]{16}\.(tmp|old)")
# What a checkpoint is for once its training has ended: reading its figures, loading its policy.
_KEPT = ("state.json", "policy")


class Prunable(NamedTuple):
    """A file or folder that can go, its bytes on disk, and why it can."""

    path: Path
    size: int
    why: str


def prunable(run_dir: Path, *, policies: bool = False) -> list[Prunable]:
    """What can go from a run, by path; `policies` adds PPO's policies along the way, which work as models.

    Links are not followed and not listed. Raises `UsageError` where there is no run.
    """
    if not (run_dir / FILE_NAME).is_file():
        raise UsageError(f"no run in {run_dir} (no {FILE_NAME}); give the directory of a run")
    found: dict[Path, str] = {}
    trainings = [each for each in _plain(run_dir) if not _LEFT.fullmatch(each.name)]
    for folder in trainings:
        found |= dict(_of_training(folder, policies))
    for folder in (run_dir, *trainings, *(each / "checkpoints" for each in trainings)):
        found |= dict.fromkeys(_left(folder), "left by a writer that was killed")
    return [Prunable(path, size_of(path), why) for path, why in sorted(found.items())]


def remove(items: Iterable[Prunable]) -> int:
    """Delete what was listed and return the bytes. Raises `StorageError`; what was deleted stays deleted."""
    freed = 0
    for item in items:
        try:
            if item.path.is_dir() and not item.path.is_symlink():
                shutil.rmtree(item.path)
            else:
                item.path.unlink(missing_ok=True)
        except OSError as problem:
            raise StorageError(
                f"cannot delete {item.path} ({problem.strerror or problem}); the rest was not touched"
            ) from problem
        freed += item.size
    return freed


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files under a folder; links count as nothing."""
    if path.is_symlink():
        return 0
    if path.is_file():
        return path.stat().st_size
    return sum((Path(folder) / name).lstat().st_size for folder, _, names in os.walk(path) for name in names)


def _of_training(folder: Path, policies: bool) -> Iterator[tuple[Path, str]]:
    if not (folder / _RECORD).is_file():
        # It goes on from its last checkpoint.
        return
    for each in _plain(folder / "checkpoints"):
        yield from _of_checkpoint(each, policies)
    for each in _plain(folder / "policies") if policies else ():
        yield each, "a policy on the way, of a training that ended"


def _of_checkpoint(folder: Path, policies: bool) -> Iterator[tuple[Path, str]]:
    """The whole checkpoint of a training that ended, or all of it but its policy."""
    if not folder.name.startswith("iteration-"):
        return
    if policies or not (folder / "policy").is_dir():
        more = ", with its policy" if (folder / "policy").is_dir() else ""
        yield folder, f"a trainer's state, of a training that ended{more}"
        return
    for each in sorted(folder.iterdir()):
        if each.name not in _KEPT and not each.is_symlink():
            yield each, "a trainer's state, of a training that ended"


def _left(folder: Path) -> Iterator[Path]:
    """What killed writers left in a folder: a living one holds a lock on its own."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_symlink() or not _LEFT.fullmatch(path.name) or path.suffix == ".old":
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path
        except OSError:
            continue
        finally:
            os.close(descriptor)


def _plain(folder: Path) -> list[Path]:
    """The folders in a folder that are no links, sorted; none where it is itself one, or missing."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())
