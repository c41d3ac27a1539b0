"""The folder through which new weights pass to a server on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from constitute.errors import EngineError

_SHARED_MEMORY = Path("/dev/shm")
# Room left in shared memory after the weights: other programs live there too.
_SPARE_BYTES = 1 << 30


@contextmanager
def folder_for(size: int, wanted: str | None) -> Iterator[Path]:
    """A new folder for `size` bytes that only this user can read, gone after the block."""
    parent = Path(wanted) if wanted else _roomy(size)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="constitute-weights-", dir=parent))
    except OSError as problem:
        raise EngineError(
            f"no folder for new weights can be made in {parent} ({problem.strerror}); set engine.sync_folder"
        ) from problem
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _roomy(size: int) -> Path:
    """Shared memory where it has room, else the folder of temporary files."""
    writable = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK)
    if writable and shutil.disk_usage(_SHARED_MEMORY).free >= size + _SPARE_BYTES:
        return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


def save(named: dict[str, Any], folder: Path) -> None:
    """Write the tensors as one safetensors file; raises `EngineError` where that fails."""
    from safetensors.torch import save_file

    try:
        save_file(named, folder / "model.safetensors")
    except Exception as problem:
        raise EngineError(
            f"new weights cannot be written to {folder} ({problem}); free space or set engine.sync_folder"
        ) from problem
