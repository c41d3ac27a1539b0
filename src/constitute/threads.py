"""How many threads torch computes with on a CPU: every core to train, one to sample from a small model.

A second thread speeds up a training step even of a small model, and hardly a decoding step, whose time goes
to work between the matrix products. Beside another busy process threads wait for each other: at the end of
each product one spins for a core that the neighbour holds. `constitute.SPIN_COUNT` bounds that wait.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from pathlib import Path

# Parameters. At 3.0 M, 2 cores, spin count 1,000, two medians each: a training step (16 rows of 96 tokens)
# takes 626 and 874 ms with one thread, 438 and 467 with two; a decoding step (64 rows) 29, 33 and 32, 35.
SMALL = 10_000_000
# Bytes, the format's own limit of a header.
_HEADER = 100_000_000


def cpu_threads(parameters: int | None, cores: int) -> int:
    """Threads to sample from a model of `parameters` weights; None, an unknown size, counts as large."""
    return 1 if parameters is not None and parameters < SMALL else max(1, cores)


def parameter_count(model: str) -> int | None:
    """Weights in the safetensors files of the folder `model`; None where it has none that can be read."""
    total = 0
    for path in Path(model).glob("*.safetensors"):
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(size, _HEADER)))
            total += sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # The loader says what is wrong with the file.
            return None
    return total or None


def use_threads(model: str, wanted: int | None = None, *, training: bool = False) -> None:
    """Set torch's threads for `model`, a folder or a Hub name; the last model opened in a process decides.

    `wanted` (`engine.threads`) comes first, then OMP_NUM_THREADS; then every core to train, and `cpu_threads`
    to sample. A GPU is left alone.
    """
    import torch

    if torch.cuda.is_available():
        return
    cores = _cores()
    given = training or "OMP_NUM_THREADS" in os.environ
    sized = cores if given else cpu_threads(parameter_count(model), cores)
    torch.set_num_threads(wanted or sized)


@cache
def _cores() -> int:
    """What torch starts with: OMP_NUM_THREADS, else the physical cores this process may use."""
    import torch

    return torch.get_num_threads()


def thread_count() -> int:
    """How many threads torch computes with now."""
    import torch

    return torch.get_num_threads()


@contextmanager
def threads_kept() -> Iterator[None]:
    """Afterwards torch computes with as many threads as before: an engine opened inside sets its own."""
    with threads_set_to(thread_count()):
        yield


@contextmanager
def threads_set_to(count: int) -> Iterator[None]:
    """Inside, torch computes with `count` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
