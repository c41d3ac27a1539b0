"""How many threads torch computes with on a CPU: one for a small model, every core for a larger one.

A second thread makes a small model little faster, since most of its time goes to work between the matrix
products. Beside another busy process it makes it many times slower: at the end of each product one thread
waits for the other, whose core the neighbour holds. `constitute.SPIN_COUNT` bounds that wait where there are
several threads.
"""

from __future__ import annotations

import json
import os
from functools import cache
from math import prod
from pathlib import Path

# Parameters. At 3.0 M (2 cores, n = 6) a second thread takes at most 0.32 of a training step (16 rows of 96
# tokens) and 0.12 of a decoding step (64 rows) from the first, by the first thread's processor time.
# `python -m benchmarks neighbour --sizes` measures the same by the clock, for larger models too.
SMALL = 10_000_000
# Bytes, the format's own limit of a header.
_HEADER = 100_000_000


def cpu_threads(parameters: int | None, cores: int) -> int:
    """Threads for a model of `parameters` weights; None, a size that is not known, counts as large."""
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


def use_threads(model: str, wanted: int | None = None) -> None:
    """Set torch's threads for `model`, a folder or a Hub name; the last model opened in a process decides.

    `wanted` (`engine.threads`) comes first, then OMP_NUM_THREADS, then `cpu_threads`. A GPU is left alone.
    """
    import torch

    if torch.cuda.is_available():
        return
    cores = _cores()
    sized = cores if "OMP_NUM_THREADS" in os.environ else cpu_threads(parameter_count(model), cores)
    torch.set_num_threads(wanted or sized)


@cache
def _cores() -> int:
    """What torch starts with: OMP_NUM_THREADS, else the physical cores this process may use."""
    import torch

    return torch.get_num_threads()
