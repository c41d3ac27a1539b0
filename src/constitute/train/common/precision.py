"""In which types a training computes, holds what it does not train, and saves what it made."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from constitute.engines.locate import reason_of, require
from constitute.errors import UsageError

# What a checkpoint of today comes in. One of fewer bits is not what a training can be written into.
_SAVED = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def half() -> bool:
    """Whether passes run in bfloat16: on a GPU that has it."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """The precision of every pass of a trainer on `device`, with a graph or without one."""
    # On a machine with a GPU a training may still run on the CPU, whose bfloat16 is slower than its float32.
    wanted = half() and (device.type == "cuda" or not torch.cuda.is_available())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def held_dtype(*, trained: bool) -> torch.dtype:
    """What weights are held in: those that learn in float32, the others as passes use them.

    A step of Adam is often below the last place of a bfloat16 weight and would be lost.
    """
    return torch.bfloat16 if half() and not trained else torch.float32


def saved_dtype(wanted: str, start: str) -> torch.dtype:
    """The type that a model trained from `start` is saved in: `wanted`, for `auto` the type of `start`.

    A model that does not say its type is taken to be in float32. Raises `UsageError` where `start` cannot be
    read.
    """
    from transformers import AutoConfig

    if wanted != "auto":
        return _SAVED[wanted]
    require(start)
    try:
        config = AutoConfig.from_pretrained(start, trust_remote_code=False)
    except (OSError, ValueError) as problem:
        raise UsageError(
            f"cannot read the configuration of {start!r} ({reason_of(problem)}); give a local folder or a "
            "Hub name"
        ) from problem
    said = str(getattr(config.get_text_config(), "dtype", None) or config.dtype or "float32")
    return _SAVED.get(said.removeprefix("torch."), torch.float32)
