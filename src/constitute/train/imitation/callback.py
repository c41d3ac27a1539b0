"""What TRL's trainer tells us while it trains.

It stands on transformers, so it is imported where a training begins: `_compat.quiet` comes first.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import TrainerCallback

from constitute.errors import GateFailed
from constitute.train.common.fit import Job, note_single_step
from constitute.train.imitation.held_out import HELD_OUT, Evaluation


class Callback(TrainerCallback):
    """Orders the rows, keeps the losses, passes each on, and scores held-out rows.

    It raises `GateFailed` at a loss that is not finite.
    """

    def __init__(self, job: Job, losses: list[float], rows: int, held_out: Evaluation | None = None) -> None:
        self.job, self.losses, self.rows, self.held_out = job, losses, rows, held_out
        self.stage = f"train {job.stage}"
        self.passes = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        """Say how many steps there will be."""
        self.job.progress.start(self.stage, state.max_steps, state.global_step)
        note_single_step(self.job, state.max_steps, self.rows)
        if self.held_out is not None:
            self.held_out.points |= {
                entry["step"]: entry[HELD_OUT] for entry in state.log_history if HELD_OUT in entry
            }
        if state.global_step == 0:
            self.evaluate(state, kept.get("model"))

    def evaluate(self, state: Any, model: Any) -> None:
        """Score the held-out rows where it is time to, and leave the figure in the trainer's log."""
        if self.held_out is not None and self.held_out.due(state.global_step, state.max_steps):
            loss = self.held_out.measure(model, state.global_step)
            state.log_history.append({"step": state.global_step, HELD_OUT: loss})

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Let the order of an epoch's rows depend on the seed and the epoch alone.

        The trainer draws it from the global generator, also when it goes on within the epoch.
        """
        torch.manual_seed(self.job.seed * 1_000_003 + int(state.epoch or 0))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say that a step has begun."""
        self.passes = 0
        self.job.progress.part(self.stage, 0.0)

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say which part of the step is done after each pass but the last."""
        self.passes += 1
        self.job.progress.part(self.stage, min(self.passes / args.gradient_accumulation_steps, 0.99))

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
        self.job.progress.finish(self.stage)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Record the loss of the step just done."""
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise GateFailed(
                f"the loss is {loss} at step {state.global_step}; lower train.{self.job.stage}.learning_rate"
            )
        self.losses.append(loss)
        self.job.progress.advance(self.stage, loss=loss)
