"""New weights on their way to another process: copies in the dtype of its engine, and a private folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from constitute.errors import EngineError

Named = Iterable[tuple[str, Any]]
_SHARED_MEMORY = Path("/dev/shm")
# Room left in shared memory after the weights: other programs live there too.
_SPARE_BYTES = 1 << 30


def copies(named: Named, dtype: Any, device: Any = None) -> Iterator[tuple[str, Any]]:
    """One tensor after another as the engine holds it: in `dtype` if it is a float, on `device` if given.

    The loader keeps a tensor until its layer is whole, and the caller may free or overwrite it as soon as
    the next one is asked for: only a copy is safe. Where `dtype` is None each keeps its own.
    """
    for name, tensor in named:
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        yield name, tensor.detach().to(device or tensor.device, wanted, copy=True)


def dtype_named(name: str) -> Any:
    """The torch dtype of a name such as `bfloat16`; None for any other name."""
    import torch

    found = getattr(torch, name, None) if name else None
    return found if isinstance(found, torch.dtype) else None


@contextmanager
def folder_for(size: int, wanted: str | None) -> Iterator[Path]:
    """A new folder for `size` bytes that only this user can read; it is removed after the block."""
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


def save_weights(named: dict[str, Any], folder: Path) -> None:
    """Write the tensors as one safetensors file; raises `EngineError` where that fails."""
    from safetensors.torch import save_file

    try:
        save_file(named, folder / "model.safetensors")
    except Exception as problem:
        raise EngineError(
            f"new weights cannot be written to {folder} ({problem}); free space or set engine.sync_folder"
        ) from problem


def require_loaded(base: str, folder: Path, count: int, result: Any) -> None:
    """Raise `EngineError` unless a worker's answer says that it loaded all `count` tensors."""
    answer = result if isinstance(result, dict) else {"error": "load", "why": str(result)}
    if answer.get("error") == "unreadable":
        raise EngineError(
            f"the server at {base} cannot read {folder} ({answer.get('why')}); set engine.sync_folder to a "
            "folder that it and this process share, and run both as one user"
        )
    if answer.get("tensors") != count:
        why = str(answer.get("why", answer))[:300]
        raise EngineError(
            f"the server at {base} did not load the new weights ({why}) and may hold half of "
            "them; restart it on the policy's folder and continue from the last checkpoint"
        )


def _roomy(size: int) -> Path:
    """Shared memory where it has room, else the folder of temporary files."""
    writable = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK)
    if writable and shutil.disk_usage(_SHARED_MEMORY).free >= size + _SPARE_BYTES:
        return _SHARED_MEMORY
    return Path(tempfile.gettempdir())
