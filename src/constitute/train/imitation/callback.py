"""What TRL's trainer tells us while it trains, and where a killed training goes on."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from constitute.errors import GateFailed
from constitute.files import read_json, write_json
from constitute.train.common.artefact import check_recipe
from constitute.train.common.fit import Job, note_single_step
from constitute.train.imitation.held_out import Evaluation

# Under this name the loss on held-out rows stands in the trainer's log, which its checkpoints hold.
HELD_OUT = "held_out_loss"


def callback(job: Job, losses: list[float], rows: int, held_out: Evaluation | None = None) -> Any:
    """A trainer callback that orders the rows, keeps the losses, passes each on, and scores held-out rows.

    It raises `GateFailed` at a loss that is not finite.
    """
    from transformers import TrainerCallback

    stage = f"train {job.stage}"

    class Callback(TrainerCallback):  # type: ignore[misc]
        """Sees the start, every epoch, every step and the end."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
            """Say how many steps there will be."""
            job.progress.start(stage, state.max_steps, state.global_step)
            note_single_step(job, state.max_steps, rows)
            if held_out is not None:
                held_out.points |= {
                    entry["step"]: entry[HELD_OUT] for entry in state.log_history if HELD_OUT in entry
                }
            if state.global_step == 0:
                self.evaluate(state, kept.get("model"))

        def evaluate(self, state: Any, model: Any) -> None:
            """Score the held-out rows where it is time to, and leave the figure in the trainer's log."""
            if held_out is not None and held_out.due(state.global_step, state.max_steps):
                loss = held_out.measure(model, state.global_step)
                state.log_history.append({"step": state.global_step, HELD_OUT: loss})

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Let the order of an epoch's rows depend on the seed and the epoch alone.

            The trainer draws it from the global generator, also when it goes on within the epoch.
            """
            torch.manual_seed(job.seed * 1_000_003 + int(state.epoch or 0))

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Say that a step has begun."""
            self.passes = 0
            job.progress.part(stage, 0.0)

        def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Say which part of the step is done after each pass but the last."""
            self.passes += 1
            job.progress.part(stage, min(self.passes / args.gradient_accumulation_steps, 0.99))

        def on_step_end(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
            """Leave out the checkpoint of the last step: the model itself is saved next.

            A checkpoint at the end of an epoch holds the generator with which the next one starts.
            """
            self.on_epoch_begin(args, state, control)
            self.evaluate(state, kept.get("model"))
            if state.global_step >= state.max_steps:
                control.should_save = False

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Close the stage."""
            job.progress.finish(stage)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            """Record the loss of the step just done."""
            if not logs or "loss" not in logs:
                return
            loss = float(logs["loss"])
            if not math.isfinite(loss):
                raise GateFailed(
                    f"the loss is {loss} at step {state.global_step}; lower train.{job.stage}.learning_rate"
                )
            losses.append(loss)
            job.progress.advance(stage, loss=loss)

    return Callback()


def last_whole(checkpoints: Path, job: Job) -> tuple[Path | None, list[float]]:
    """The newest whole checkpoint of the trainer and the losses up to it; None and none before the first.

    Raises `RunMismatch` where `checkpoints` are of another recipe than the job's, which is written beside
    them. A checkpoint is whole once its last file, trainer_state.json, is.
    """
    record = checkpoints / "made_by.json"
    if not record.is_file():
        write_json(record, job.made_by)
        return None, []
    check_recipe(job.out, read_json(record), job.made_by)
    found = {int(path.name.rpartition("-")[2]): path for path in checkpoints.glob("checkpoint-[0-9]*")}
    for _, path in sorted(found.items(), reverse=True):
        with suppress(OSError, ValueError):
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            return path, [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    return None, []
