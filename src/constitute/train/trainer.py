"""What both of TRL's trainers are given: devices, schedule, batches, and lines for our own progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from constitute.config.train import RewardConfig, SFTConfig
from constitute.progress import Progress
from constitute.stats import mean


def device_batch(batch_size: int, device_batch_size: int) -> int:
    """The largest divisor of `batch_size` that is at most `device_batch_size`."""
    return max(size for size in range(1, min(batch_size, device_batch_size) + 1) if batch_size % size == 0)


def common_arguments(config: SFTConfig | RewardConfig, scratch: Path, seed: int) -> dict[str, Any]:
    """Arguments of transformers' trainer that SFT and reward share. Nothing is saved or reported by it."""
    import torch

    on_gpu = torch.cuda.is_available()
    rows = device_batch(config.batch_size, config.device_batch_size)
    return {
        "output_dir": str(scratch),
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
        "train_sampling_strategy": "group_by_length",
        "length_column_name": "length",
        "optim": "adamw_torch_fused",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "seed": seed,
        "data_seed": seed,
    }


def reporting(stage: str, progress: Progress, losses: list[float]) -> Any:
    """A trainer callback that keeps the losses and passes each on; it stops at one that is not finite."""
    from math import isfinite

    from transformers import TrainerCallback

    from constitute.errors import GateFailed

    class Reporting(TrainerCallback):  # type: ignore[misc]
        """Sees the start, every logged step and the end."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Say how many steps there will be."""
            progress.start(f"train {stage}", state.max_steps)

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
