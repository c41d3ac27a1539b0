"""How many bytes a training will write, said before it begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import nn

from constitute.progress import Progress

# Below it nobody has to make room.
_WORTH_SAYING = 10**8


def model_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters, tied ones once."""
    return sum(each.numel() * each.element_size() for each in model.parameters())


def checkpoint_bytes(model: nn.Module) -> int:
    """Bytes of a checkpoint: the weights, and Adam's two moments of each that is trained, in its own type."""
    trained = sum(each.numel() * each.element_size() for each in model.parameters() if each.requires_grad)
    return model_bytes(model) + 2 * trained


def most_bytes(checkpoint: int, model: int, checkpoints: int, *, kept: int = 1, policies: int = 0) -> int:
    """The most bytes a training has on disk at once, when it writes `checkpoints` of them.

    Up to `kept` stay while the next is written; the model is written at the end, beside those that stayed
    and `policies` copies of it.
    """
    writing = min(checkpoints, kept + 1) * checkpoint
    ended = min(checkpoints, kept) * checkpoint + model
    return max(writing, ended) + policies * model


def note_disk(progress: Progress, stage: str, out: Path, need: int) -> None:
    """Say what a training takes on disk where that is much, or more than is free."""
    folder = next(each for each in (out.absolute(), *out.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    if need > free:
        progress.note(
            f"training {stage} writes up to {_gigabytes(need)} to {out}, and only {_gigabytes(free)} are "
            "free; make room, `constitute prune RUN` lists what can go, or give another --out"
        )
    elif need >= _WORTH_SAYING:
        progress.note(
            f"training {stage} writes up to {_gigabytes(need)} to {out}; {_gigabytes(free)} are free"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
