"""Call a user's Python function on answers: `FILE.py:function`, texts in, a number in [0, 1] for each.

A user's code is read from the file that is named and from nowhere else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import numbers
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from constitute.errors import DataError, UsageError

Scorer = Callable[[Sequence[str]], Sequence[float]]


def load_scorer(source: str) -> tuple[Scorer, str]:
    """The function of `FILE.py:function`, and its name with a hash of the file."""
    file, _, name = source.rpartition(":")
    path = Path(file)
    if not name.isidentifier() or path.suffix != ".py":
        raise UsageError(f"--scorer {source!r} names no Python file and function; give FILE.py:function")
    if not path.is_file():
        raise UsageError(f"--scorer {source!r}: there is no file {str(path)!r}; give FILE.py:function")
    spec = importlib.util.spec_from_file_location(f"scorer_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise UsageError(f"reading {path} raised {_said(problem)}; mend it; --debug shows where") from problem
    function: Any = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{path} has no function {name!r}; check its name")
    found: Scorer = function
    return found, f"{path.name}:{name}#{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def scored_texts(scorer: Scorer, name: str, texts: Sequence[str]) -> list[float]:
    """A number in [0, 1] for each text. Raises `DataError` naming the function for anything else."""
    try:
        values: Any = scorer(list(texts))
    except Exception as problem:
        raise DataError(
            f"the scorer {name} raised {_said(problem)}; mend it; --debug shows where"
        ) from problem
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes) or len(values) != len(texts):
        size = f" of {len(values)}" if hasattr(values, "__len__") else ""
        raise DataError(
            f"the scorer {name} returned a {type(values).__name__}{size} for {len(texts)} texts; "
            "it must return a list with one number for each"
        )
    for at, value in enumerate(values):
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not real or not math.isfinite(value) or not 0 <= value <= 1:
            raise DataError(
                f"the scorer {name} returned {value!r} for text {at}; it must be a number in [0, 1]"
            )
    return [float(value) for value in values]


def _said(problem: Exception) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
