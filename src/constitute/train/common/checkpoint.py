"""Checkpoints of our own training loops: a folder appears whole under its name, or not at all."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from constitute.files import atomic_folder, read_json, write_json
from constitute.train.common import sharding
from constitute.train.common.artefact import check_recipe

_PREFIX = "iteration-"


def save_checkpoint(
    folder: Path,
    iteration: int,
    model: nn.Module,
    optimizer: Any,
    scheduler: Any,
    state: dict[str, Any],
    save_policy: Callable[[Path], None] | None = None,
) -> Path | None:
    """Write `folder/iteration-000012`, then remove the older ones except the best.

    The folder holds the weights (safetensors), optimizer, schedule and random states, `state` as JSON and,
    with `save_policy`, what a user loads, in `policy/`. The best has the greatest `state["objective"]`.
    Raises `StorageError` where the disk refuses; what was there before stays.

    All processes of a sharded model must call it. The first writes what an unsharded run would write; the
    others write nothing and get None.
    """
    from safetensors.torch import save_file, save_model

    weights, moments = None, None
    if sharding.is_sharded(model):
        weights, moments = sharding.gather_state(model, optimizer)
        if torch.distributed.get_rank():
            return None
    final = folder / f"{_PREFIX}{iteration:06d}"
    for left in folder.glob(f".{_PREFIX}*"):
        # A killed save left it.
        shutil.rmtree(left, ignore_errors=True)
    with atomic_folder(final) as staging:
        if weights is None:
            save_model(model, str(staging / "model.safetensors"))
        else:
            save_file(weights, str(staging / "model.safetensors"))
        training = {"optimizer": moments or optimizer.state_dict(), "scheduler": scheduler.state_dict()}
        training["random"] = {"torch": torch.get_rng_state(), "python": _python_state()}
        if torch.cuda.is_available():
            training["random"]["cuda"] = torch.cuda.get_rng_state_all()
        torch.save(training, staging / "training.pt")
        write_json(staging / "state.json", {"iteration": iteration, **state})
        if save_policy is not None:
            (staging / "policy").mkdir()
            save_policy(staging / "policy")
    best = best_checkpoint(folder)
    for old in _folders(folder)[:-1]:
        if old != best:
            shutil.rmtree(old, ignore_errors=True)
    return final


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the greatest objective; None where none has one."""
    scored = [
        (state["objective"], path) for path in _folders(folder) if "objective" in (state := _state(path))
    ]
    return max(scored)[1] if scored else None


def _state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = read_json(path / "state.json")
    return state


def last_checkpoint(folder: Path, made_by: dict[str, Any]) -> Path | None:
    """The newest whole checkpoint, None where there is none; `RunMismatch` for one of another recipe."""
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

    if sharding.is_sharded(model):
        sharding.load_weights(model, path / "model.safetensors")
    else:
        load_model(model, str(path / "model.safetensors"), device=str(next(model.parameters()).device))
    training = torch.load(path / "training.pt", weights_only=True, map_location="cpu")
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
