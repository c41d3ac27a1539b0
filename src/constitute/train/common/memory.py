"""Turn running out of memory into a sentence that names the settings to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from constitute.errors import UsageError

_PLAN = "`constitute train plan` names settings that fit a GPU"
_CPU_WORDS = ("not enough memory", "can't allocate memory")


@contextmanager
def memory_advice(knobs: str) -> Iterator[None]:
    """Raise `UsageError` naming `knobs` where the device or the machine runs out of memory."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as problem:
        raise UsageError(f"out of GPU memory; lower {knobs}; {_PLAN}") from problem
    except RuntimeError as problem:
        # The CPU allocator has no error class of its own.
        if not any(words in str(problem) for words in _CPU_WORDS):
            raise
        raise UsageError(f"out of memory; lower {knobs}") from problem
