"""What TRL's trainer is given: devices, schedule, batches, checkpoints, and lines for our own progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from constitute.config.train import SFTConfig
from constitute.progress import Progress
from constitute.stats import mean
from constitute.train.common.artefact import check_recipe, write_json


def device_batch(batch_size: int, device_batch_size: int) -> int:
    """The largest divisor of `batch_size` that is at most `device_batch_size`."""
    return max(size for size in range(1, min(batch_size, device_batch_size) + 1) if batch_size % size == 0)


def trainer_arguments(config: SFTConfig, checkpoints: Path, seed: int) -> dict[str, Any]:
    """Arguments of transformers' trainer. It saves checkpoints alone, and reports nothing."""
    import torch

    on_gpu = torch.cuda.is_available()
    rows = device_batch(config.batch_size, config.device_batch_size)
    return {
        "output_dir": str(checkpoints),
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": config.batch_size // rows,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        # Below 1 it is a share of the steps.
        "warmup_steps": config.warmup,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": config.gradient_checkpointing,
        "bf16": on_gpu and torch.cuda.is_bf16_supported(),
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "optim": "adamw_torch_fused",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": config.checkpoint_every,
        # The one before stays until the newest is whole.
        "save_total_limit": 2,
        "seed": seed,
        "data_seed": seed,
    }


def by_length_each_epoch(trainer: Any, lengths: Sequence[int], batch_size: int, seed: int) -> Any:
    """The trainer, drawing batches of like lengths in an order that depends on the seed and the epoch alone.

    Its own sampler draws from the global generator, which a run that goes on within an epoch has moved past.
    """
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    class Grouped:
        """Indices of the rows, an order for each epoch."""

        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            """The epoch that `__iter__` is to order."""
            self.epoch = epoch

        def __len__(self) -> int:
            return len(lengths)

        def __iter__(self) -> Iterator[int]:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + self.epoch)
            return iter(get_length_grouped_indices(list(lengths), batch_size, generator=generator))

    trainer._get_train_sampler = lambda dataset=None: Grouped()
    return trainer


def reporting(stage: str, progress: Progress, losses: list[float]) -> Any:
    """A trainer callback that keeps the losses and passes each on; it stops at one that is not finite."""
    from math import isfinite

    from transformers import TrainerCallback

    from constitute.errors import GateFailed

    class Reporting(TrainerCallback):  # type: ignore[misc]
        """Sees the start, every logged step and the end."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Say how many steps there will be."""
            progress.start(f"train {stage}", state.max_steps, state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Leave out the checkpoint of the last step: the model itself is saved next."""
            if state.global_step >= state.max_steps:
                control.should_save = False

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Close the stage."""
            progress.finish(f"train {stage}")

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            """Record the loss of the step just done."""
            if not logs or "loss" not in logs:
                return
            loss = float(logs["loss"])
            if not isfinite(loss):
                raise GateFailed(
                    f"the loss is {loss} at step {state.global_step}; lower train.{stage}.learning_rate"
                )
            losses.append(loss)
            progress.advance(f"train {stage}", loss=loss)

    return Reporting()


def last_whole(checkpoints: Path, out: Path, made_by: dict[str, Any]) -> tuple[Path | None, list[float]]:
    """The newest whole checkpoint of the trainer and the losses up to it; None and none before the first.

    Raises `RunMismatch` where `checkpoints` are of another recipe than `made_by`, which is written beside
    them. A checkpoint is whole once its last file, trainer_state.json, is.
    """
    record = checkpoints / "made_by.json"
    if not record.is_file():
        checkpoints.mkdir(parents=True, exist_ok=True)
        write_json(record, made_by)
        return None, []
    check_recipe(out, json.loads(record.read_text(encoding="utf-8")), made_by)
    found = {int(path.name.rpartition("-")[2]): path for path in checkpoints.glob("checkpoint-[0-9]*")}
    for _, path in sorted(found.items(), reverse=True):
        with suppress(OSError, ValueError):
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            return path, [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    return None, []


def without_printer(trainer: Any) -> Any:
    """The trainer without transformers' own printing of logs, which would go to stdout."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def loss_figures(losses: list[float]) -> dict[str, float]:
    """Steps, and the mean loss over the first and over the last tenth of them."""
    share = max(1, len(losses) // 10)
    return {"steps": len(losses), "loss_first": mean(losses[:share]), "loss_last": mean(losses[-share:])}


def save_into(network: Any, tokenizer: Any, losses: Sequence[float]) -> Callable[[Path], None]:
    """What writes a model, its tokenizer and the loss of each step (metrics.jsonl) into a folder."""
    lines = [json.dumps({"step": step, "loss": loss}) for step, loss in enumerate(losses, start=1)]

    def save(folder: Path) -> None:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    return save
