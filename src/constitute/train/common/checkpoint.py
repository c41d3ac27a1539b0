"""Checkpoints of our own training loops: a folder appears whole under its name, or not at all."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from constitute.files import atomic_folder, read_json, sync_folder, write_json
from constitute.stats import first_best
from constitute.train.common import sharding, shards
from constitute.train.common.artefact import check_recipe

_PREFIX = "iteration-"
_SHARDS = "shards"


@dataclass
class _Pending:
    """The save under way in this process, if any."""

    writing: shards.Writing | None = None


_PENDING = _Pending()


def settle() -> bool:
    """Wait for the save under way; whether there was one. Raises `StorageError` where it failed."""
    writing, _PENDING.writing = _PENDING.writing, None
    if writing is not None:
        writing.wait()
    return writing is not None


def save_checkpoint(
    folder: Path,
    iteration: int,
    model: nn.Module,
    optimizer: Any,
    scheduler: Any,
    state: dict[str, Any],
    save_policy: Callable[[Path], None] | None = None,
    *,
    keep: int = 1,
) -> Path | None:
    """Write `folder/iteration-000012`, then remove all but the newest `keep` and the best.

    The folder holds the weights (safetensors), optimizer, schedule and random states, `state` as JSON and,
    with `save_policy`, what a user loads, in `policy/`. The best has the greatest `state["objective"]`.
    Raises `StorageError` where the disk refuses; what was there before stays.

    All processes of a sharded model must call it. Each then writes its own parts, to `shards/` in place of
    the weights and the moments, and goes on training while that lasts: the folder appears when all have
    written, and `settle` waits for it. Returns the folder in the first process, None in the others.
    """
    from safetensors.torch import save_model

    settle()
    final = folder / f"{_PREFIX}{iteration:06d}"
    if sharding.is_sharded(model):
        return _save_parts(final, model, optimizer, _Rest(iteration, scheduler, state, save_policy, keep))
    _remove_leftovers(folder)
    with atomic_folder(final) as staging:
        save_model(model, str(staging / "model.safetensors"))
        _write_rest(staging, optimizer.state_dict(), _Rest(iteration, scheduler, state, save_policy, keep))
    _prune(folder, keep)
    return final


@dataclass(frozen=True)
class _Rest:
    """What a checkpoint holds beside weights and moments, and how many are kept."""

    iteration: int
    scheduler: Any
    state: dict[str, Any]
    save_policy: Callable[[Path], None] | None
    keep: int


def _save_parts(final: Path, model: nn.Module, optimizer: Any, rest: _Rest) -> Path | None:
    """Begin to write a sharded checkpoint; all processes call it."""
    main = torch.distributed.get_rank() == 0
    staging = final.with_name(f".{final.name}")
    if main:
        _remove_leftovers(final.parent)
        staging.mkdir(parents=True)
        _write_rest(staging, shards.without_tensors(optimizer), rest)

    def complete() -> None:
        for file in sorted(staging.rglob("*")):
            if file.is_file():
                _sync(file)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(staging, final)
        sync_folder(final.parent)
        _prune(final.parent, rest.keep)

    # Nobody writes before the first process has made the folder.
    torch.distributed.barrier()
    parts = shards.parts_of(model, optimizer)
    _PENDING.writing = shards.begin(staging / _SHARDS, parts, complete if main else None)
    return final if main else None


def _write_rest(staging: Path, optimizer: dict[str, Any], rest: _Rest) -> None:
    training = {"optimizer": optimizer, "scheduler": rest.scheduler.state_dict()}
    training["random"] = {"torch": torch.get_rng_state(), "python": _python_state()}
    if torch.cuda.is_available():
        training["random"]["cuda"] = torch.cuda.get_rng_state_all()
    torch.save(training, staging / "training.pt")
    write_json(staging / "state.json", {"iteration": rest.iteration, **rest.state})
    if rest.save_policy is not None:
        (staging / "policy").mkdir()
        rest.save_policy(staging / "policy")


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed saves left."""
    for left in folder.glob(f".{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prune(folder: Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep` and the best."""
    best = _best(folder)
    for old in _folders(folder)[:-keep]:
        if old != best:
            shutil.rmtree(old, ignore_errors=True)


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the greatest objective, of equal ones the first; None where none has one."""
    settle()
    return _best(folder)


def iteration_of(checkpoint: Path) -> int:
    """The number of iterations after which a checkpoint was saved."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def _best(folder: Path) -> Path | None:
    scored = [
        (state["objective"], path) for path in _folders(folder) if "objective" in (state := _state(path))
    ]
    return scored[first_best([objective for objective, _ in scored])][1] if scored else None


def _state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = read_json(path / "state.json")
    return state


def last_checkpoint(folder: Path, made_by: dict[str, Any]) -> Path | None:
    """The newest whole checkpoint, None where there is none; `RunMismatch` for one of another recipe."""
    if settle():
        # The first process's last act of a save is to give it its name.
        torch.distributed.barrier()
    found = _folders(folder)
    if not found:
        return None
    check_recipe(folder.parent, _without_code(_state(found[-1])["made_by"]), _without_code(made_by))
    return found[-1]


def _without_code(made_by: dict[str, Any]) -> dict[str, Any]:
    """A recipe without the hashes of reward functions' files: a function may be mended during a run."""
    inputs = {name: re.sub(r"#[0-9a-f]{16}$", "", value) for name, value in made_by.get("inputs", {}).items()}
    return {**made_by, "inputs": inputs}


def load_checkpoint(path: Path, model: nn.Module, optimizer: Any, scheduler: Any) -> dict[str, Any]:
    """Restore everything `save_checkpoint` wrote and return its `state`. Reads tensors only, no code."""
    from safetensors.torch import load_model

    training = torch.load(path / "training.pt", weights_only=True, map_location="cpu")
    if (path / _SHARDS).is_dir():
        shards.read(path / _SHARDS, model, optimizer, training["optimizer"])
    else:
        if sharding.is_sharded(model):
            sharding.load_weights(model, path / "model.safetensors")
        else:
            device = str(next(model.parameters()).device)
            load_model(model, str(path / "model.safetensors"), device=device)
        sharding.load_optimizer(optimizer, training["optimizer"])
    scheduler.load_state_dict(training["scheduler"])
    torch.set_rng_state(training["random"]["torch"])
    version, words, gauss = training["random"]["python"]
    random.setstate((version, tuple(words), gauss))
    if torch.cuda.is_available() and "cuda" in training["random"]:
        torch.cuda.set_rng_state_all(training["random"]["cuda"])
    return _state(path)


def _python_state() -> list[Any]:
    version, words, gauss = random.getstate()
    return [version, list(words), gauss]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if (path / "state.json").is_file())
