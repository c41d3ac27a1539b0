"""Checkpoints of sharded weights: each process writes its own parts, in the background of the training.

torch.distributed.checkpoint writes them, and reads them into any number of processes: no process holds the
whole of anything.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from constitute.errors import StorageError, UsageError
from constitute.train.common import sharding

_MODEL, _OPTIMIZER = "model.", "optimizer."


def parts_of(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """Weights (tied ones once) and optimizer state by name, each as this process's part of it."""
    sharding.reshard(model)
    ours = model.state_dict(keep_vars=True)
    first = {sharding.identity(tensor): name for name, tensor in reversed(ours.items())}
    parts = {f"{_MODEL}{name}": ours[name].detach() for name in first.values()}
    for place, values in optimizer.state_dict()["state"].items():
        parts |= {f"{_OPTIMIZER}{place}.{name}": value for name, value in values.items()}
    return parts


def without_tensors(optimizer: Any) -> dict[str, Any]:
    """An optimizer's state apart from what `parts_of` holds of it."""
    return {**optimizer.state_dict(), "state": {}}


@dataclass(frozen=True)
class Writing:
    """A save under way: the parts' own, and what completes it in the first process."""

    parts: Future[Any]
    completing: threading.Thread | None
    failed: list[BaseException]

    def wait(self) -> None:
        """Return once all is on disk. Raises `StorageError` where it is not."""
        problem = self.parts.exception()
        if self.completing is not None:
            self.completing.join()
        problem = problem or next(iter(self.failed), None)
        if problem is not None:
            raise StorageError(
                f"a checkpoint could not be written ({problem}); the one before is kept"
            ) from problem


def begin(folder: Path, parts: dict[str, Any], complete: Callable[[], None] | None) -> Writing:
    """Copy the parts to host memory, and write them to `folder` while training goes on.

    All processes must call it. `complete`, in the first, is called when the parts of all are on disk.
    """
    from torch.distributed.checkpoint import FileSystemWriter, async_save

    _settle_at_exit()
    writer = FileSystemWriter(folder, thread_count=1)
    future: Any = async_save(parts, storage_writer=writer, process_group=_group())
    failed: list[BaseException] = []

    def completing() -> None:
        try:
            future.result()
            assert complete is not None
            complete()
        except BaseException as problem:
            failed.append(problem)

    thread = None
    if complete is not None:
        thread = threading.Thread(target=completing, name="checkpoint")
        thread.start()
    return Writing(future, thread, failed)


@cache
def _group() -> Any:
    """All processes, over the network of their hosts: a save must not stand in line with gradients."""
    return torch.distributed.new_group(backend="gloo")


def forget_group() -> None:
    """Forget the group of processes; only for the end of a process."""
    _group.cache_clear()


@cache
def _settle_at_exit() -> None:
    from constitute.train.common.checkpoint import settle

    # Registered after the process group's own end, and so called before it.
    atexit.register(settle)


def read(folder: Path, model: nn.Module, optimizer: Any, rest: dict[str, Any]) -> None:
    """Restore what `parts_of` gave into a model on any number of processes, whole or sharded.

    `rest` is what `without_tensors` gave. Raises `UsageError` for parts of another model.
    """
    from torch.distributed.checkpoint import FileSystemReader, load

    sharding.reshard(model)
    reader = FileSystemReader(folder)
    stored: dict[str, Any] = reader.read_metadata().state_dict_metadata
    ours = model.state_dict(keep_vars=True)
    held = {name.removeprefix(_MODEL) for name in stored if name.startswith(_MODEL)}
    known = {sharding.identity(tensor) for name, tensor in ours.items() if name in held}
    lacking = [name for name, tensor in ours.items() if sharding.identity(tensor) not in known]
    if lacking or held - set(ours):
        raise UsageError(f"{folder} is of another model ({(lacking or sorted(held - set(ours)))[0]})")
    state: dict[str, Any] = {f"{_MODEL}{name}": ours[name].detach() for name in held}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Any]] = {}
    for name, meta in stored.items():
        if name.startswith(_OPTIMIZER):
            place, _, kind = name.removeprefix(_OPTIMIZER).partition(".")
            moments.setdefault(int(place), {})[kind] = _empty(meta, parameters[int(place)])
    state |= {
        f"{_OPTIMIZER}{at}.{kind}": value for at, kinds in moments.items() for kind, value in kinds.items()
    }
    load(state, storage_reader=reader, no_dist=not torch.distributed.is_initialized())
    optimizer.load_state_dict({**rest, "state": moments})


def _empty(meta: Any, parameter: Any) -> Any:
    """Room for one of a parameter's moments, in parts where the parameter is."""
    if tuple(meta.size) == tuple(parameter.shape):
        return torch.zeros_like(parameter, dtype=meta.properties.dtype, requires_grad=False)
    return torch.zeros(meta.size, dtype=meta.properties.dtype)
