"""Results of other programs on eval sets, and their registry: one module a program.

Start at `base` for what is read from a log.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from constitute.errors import DataError, UsageError
from constitute.registry import registered

if TYPE_CHECKING:
    from constitute.evals.imports.base import LogFormat, SetLog

# Name -> "module:object" of its `LogFormat`.
LOG_FORMATS: dict[str, str] = {
    "lm-eval": "constitute.evals.imports.lm_eval:FORMAT",
    "inspect": "constitute.evals.imports.inspect:FORMAT",
}


def read_set_log(path: Path) -> SetLog:
    """What a log says of a set. Raises `UsageError` for no file and `DataError` for an unusable one."""
    if not path.is_file():
        raise UsageError(f"cannot read results from {str(path)!r}: no such file; give a log")
    formats: dict[str, LogFormat] = {name: registered(LOG_FORMATS, name, "log") for name in LOG_FORMATS}
    for form in formats.values():
        if form.detect(path):
            return form.read(path)
    known = "; ".join(form.about for form in formats.values())
    raise DataError(f"{path} is no log that can be read; known: {known}")
