"""Send a run's metrics to TensorBoard, Weights & Biases or trackio, by accelerate's trackers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from constitute.errors import UsageError

PROJECT = "constitute"
# Tracker -> the modules any of which will do, and the package to install.
PACKAGES = {
    "tensorboard": (("tensorboardX", "tensorboard"), "tensorboardX"),
    "wandb": (("wandb",), "wandb"),
    "trackio": (("trackio",), "trackio"),
}


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a metrics line; `seconds` by phase as `seconds/<phase>`; None and text are left out."""
    flat: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{inner}": number for inner, number in scalars(value).items()}
        elif isinstance(value, int | float):
            flat[name] = float(value)
    return flat


def check_trackers(names: Iterable[str], section: str) -> None:
    """Raise `UsageError`, with the command that installs it, for a tracker whose package is missing.

    `section` is that of the settings which name them, such as `ppo`.
    """
    for name in names:
        modules, package = PACKAGES[name]
        if not any(find_spec(module) for module in modules):
            raise UsageError(
                f"train.{section}.report_to names {name}, whose package is not installed; "
                f"run `pip install {package}` or take it out"
            )


def open_trackers(
    names: Iterable[str], out: Path, run_id: str, made_by: Mapping[str, Any], done: int = 0
) -> list[Any]:
    """Start each tracker of `names`: accelerate's `GeneralTracker`, with `log(figures, step)`.

    `run_id` names the run in all of them; `done` iterations were logged before. Raises `UsageError` for a
    tracker that is not installed or cannot start.
    """
    names = list(names)
    check_trackers(names, made_by["kind"])
    return [_start(name, _settings(name, out, run_id, made_by, done)) for name in names]


def log_samples(tracker: Any, rows: Sequence[Mapping[str, str | float]], step: int) -> None:
    """Show the completions of one step as a table called `samples`: in TensorBoard, which has none, as text.

    The names of a row's values are the columns; all rows have the same.
    """
    if not rows:
        return
    columns, data = list(rows[0]), [list(row.values()) for row in rows]
    if tracker.name == "wandb":
        tracker.log_table("samples", columns=columns, data=data, step=step)
    elif tracker.name == "trackio":
        # It takes the names of columns from a DataFrame alone.
        from pandas import DataFrame

        tracker.log({"samples": import_module("trackio").Table(dataframe=DataFrame(rows))}, step)
    else:
        tracker.log({"samples": markdown_table(columns, data)}, step)


def markdown_table(columns: Sequence[str], data: Sequence[Sequence[Any]]) -> str:
    """A table that TensorBoard renders; a text cannot break out of its cell, nor be read as mark-up."""
    lines = [[*columns], ["---"] * len(columns), *([_cell(value) for value in row] for row in data)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|#":
        text = text.replace(mark, f"\\{mark}")
    return "<br>".join(text.splitlines())


def close_trackers(trackers: Iterable[Any]) -> None:
    """Hand what is still held to the trackers and end their runs."""
    # trackio prints to stdout, which belongs to our data.
    with redirect_stdout(sys.stderr):
        for tracker in trackers:
            tracker.finish()


def _settings(name: str, out: Path, run_id: str, made_by: Mapping[str, Any], done: int) -> dict[str, Any]:
    if name == "tensorboard":
        # Event files in OUT/tensorboard. A run that goes on hides what was logged after its checkpoint. A
        # file is named by the second it was opened in: the suffix keeps two of one second apart.
        purge = done + 1 if done else None
        return {
            "run_name": name,
            "logging_dir": str(out),
            "purge_step": purge,
            "filename_suffix": f".{done}",
        }
    project = os.environ.get(f"{name.upper()}_PROJECT", PROJECT)
    shared = {"run_name": project, "config": dict(made_by), "resume": "allow"}
    if name == "wandb":
        title = os.environ.get("WANDB_NAME", f"{out.resolve().parent.name}/{out.name}")
        return {**shared, "dir": str(out), "id": run_id, "name": title}
    quiet = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
    return {**shared, "name": f"{out.name}-{run_id}", **quiet}


def _start(name: str, settings: dict[str, Any]) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    refusals = (import_module("wandb").errors.Error,) if name == "wandb" else ()
    tracker = LOGGER_TYPE_TO_CLASS[name](**settings)
    try:
        with redirect_stdout(sys.stderr):
            tracker.start()
    except refusals as problem:
        raise UsageError(
            f"Weights & Biases cannot start: {problem}; run `wandb login`, or set WANDB_MODE=offline, or "
            f"take wandb out of train.{settings['config']['kind']}.report_to"
        ) from problem
    return tracker
