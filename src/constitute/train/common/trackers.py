"""Send a run's metrics to TensorBoard, Weights & Biases or trackio; each is imported when asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from constitute.errors import UsageError

PROJECT = "constitute"
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Tracker:
    """Where figures go: `log(figures, iteration)` for each iteration, then `close()`."""

    log: Callable[[dict[str, float], int], None]
    close: Callable[[], None]


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a metrics line; `seconds` by phase as `seconds/<phase>`; None and text are left out."""
    flat: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{inner}": number for inner, number in scalars(value).items()}
        elif isinstance(value, int | float):
            flat[name] = float(value)
    return flat


def _tensorboard(out: Path, run_id: str, made_by: Mapping[str, Any], done: int) -> Tracker:
    """Event files in OUT/tensorboard; a run that goes on hides what was logged after its checkpoint."""
    module = "tensorboardX" if find_spec("tensorboardX") else "torch.utils.tensorboard"
    # A file is named by the second it was opened in: the suffix keeps one opened in the same second from
    # taking its place.
    writer = import_module(module).SummaryWriter(
        str(out / "tensorboard"), purge_step=done + 1 if done else None, filename_suffix=f".{done}"
    )

    def log(figures: dict[str, float], iteration: int) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, iteration)
        writer.flush()

    return Tracker(log, writer.close)


def _wandb(out: Path, run_id: str, made_by: Mapping[str, Any], done: int) -> Tracker:
    """A run of WANDB_PROJECT that keeps its id; WANDB_MODE=offline writes to OUT/wandb alone."""
    import wandb

    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(out),
            id=run_id,
            name=os.environ.get("WANDB_NAME", f"{out.resolve().parent.name}/{out.name}"),
            config=dict(made_by),
            resume="allow",
        )
    except wandb.errors.Error as problem:
        raise UsageError(
            f"Weights & Biases cannot start: {problem}; run `wandb login`, or set WANDB_MODE=offline, or "
            "take wandb out of train.ppo.report_to"
        ) from problem
    return Tracker(lambda figures, iteration: run.log(figures, step=iteration), run.finish)


def _trackio(out: Path, run_id: str, made_by: Mapping[str, Any], done: int) -> Tracker:
    """A run in trackio's local store (TRACKIO_DIR), or where trackio's own variables say."""
    # trackio prints to stdout, which belongs to our data.
    with redirect_stdout(sys.stderr):
        import trackio

        run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=f"{out.name}-{run_id}",
            config=dict(made_by),
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def close() -> None:
        with redirect_stdout(sys.stderr):
            trackio.finish()

    return Tracker(lambda figures, iteration: run.log(figures, step=iteration), close)


@dataclass(frozen=True)
class _Kind:
    """How to open a tracker, the modules any of which will do, and what to install."""

    open: Callable[[Path, str, Mapping[str, Any], int], Tracker]
    modules: tuple[str, ...]
    package: str


TRACKERS = {
    "tensorboard": _Kind(_tensorboard, ("tensorboardX", "tensorboard"), "tensorboardX"),
    "wandb": _Kind(_wandb, ("wandb",), "wandb"),
    "trackio": _Kind(_trackio, ("trackio",), "trackio"),
}


def check_trackers(names: Iterable[str]) -> None:
    """Raise `UsageError`, with the command that installs it, for a tracker whose package is missing."""
    for name in names:
        if not any(find_spec(module) for module in TRACKERS[name].modules):
            raise UsageError(
                f"train.ppo.report_to names {name}, whose package is not installed; "
                f"run `pip install {TRACKERS[name].package}` or take it out"
            )


def open_trackers(
    names: Iterable[str], out: Path, run_id: str, made_by: Mapping[str, Any], done: int = 0
) -> list[Tracker]:
    """Open each tracker of `names`; `run_id` names the run in all of them, `done` iterations were logged.

    Raises `UsageError` for one that is not installed or cannot start.
    """
    names = list(names)
    check_trackers(names)
    return [TRACKERS[name].open(out, run_id, made_by, done) for name in names]
