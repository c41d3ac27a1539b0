"""TRL's SFTTrainer on rows in tokens: its arguments, its adapters, and where a killed training goes on."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from constitute.config.train import SFTConfig
from constitute.errors import UsageError
from constitute.files import read_json, write_json
from constitute.progress import process_count
from constitute.train.common import _compat, lora
from constitute.train.common.artefact import check_recipe
from constitute.train.common.fit import Job
from constitute.train.common.memory import memory_advice
from constitute.train.common.models import load_model
from constitute.train.common.optimizers import optimizer_class
from constitute.train.common.precision import half, held_dtype
from constitute.train.common.team import sharded_launch
from constitute.train.imitation.held_out import Evaluation
from constitute.train.imitation.packing import check_packs, packing_arguments
from constitute.train.imitation.rows import RowSplit

# What PEFT calls the one adapter that TRL puts in.
ADAPTER = "default"
_KNOBS = "train.sft.device_batch_size or train.sft.max_length, or set train.sft.gradient_checkpointing=true"


def train_rows(
    model: str,
    tokenizer: Any,
    rows: RowSplit,
    config: SFTConfig,
    job: Job,
    held_out: Evaluation,
) -> tuple[Any, list[float]]:
    """`model` after training on `rows.train`, adapters in it, and the loss of each step.

    Started again, it goes on from the job's last whole checkpoint. Raises `RunMismatch`, `GateFailed`.
    """
    from datasets import Dataset
    from transformers import PrinterCallback

    from constitute.train.imitation.callback import Callback

    n = len(rows.train)
    with job.progress.waiting(f"loading {model} to train it on {n} rows, {rows.tokens} tokens"):
        network = _network(model, job.seed, config.lora_rank)
    folder = job.out / "checkpoints"
    checkpoint, losses = last_whole(folder, job)
    trainer_class, config_class = _compat.sft_trainer()
    optimizer, settings = optimizer_class(job.optimizer, sharded=sharded_launch())
    if config.packing != "none":
        check_packs(network, type(network).__name__)
    columns = {"input_ids": [ids for ids, _ in rows.train], "labels": [labels for _, labels in rows.train]}
    with memory_advice(_KNOBS):
        with job.progress.waiting("setting up the trainer"):
            trainer = trainer_class(
                model=network,
                args=config_class(**trainer_arguments(config, folder, job.seed)),
                train_dataset=Dataset.from_dict(columns),
                processing_class=tokenizer,
                peft_config=_lora(config.lora_rank) if config.lora_rank else None,
                optimizer_cls_and_kwargs=(optimizer, {"lr": config.learning_rate, **settings}),
                callbacks=[Callback(job, losses, n, held_out)],
            )
        # It prints each line of the log to stdout, which belongs to our data.
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return _adapted(trainer.model) if config.lora_rank else trainer.model, losses


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


def _network(model: str, seed: int, lora_rank: int) -> Any:
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(seed)
    return load_model(AutoModelForCausalLM, model, dtype=held_dtype(trained=not lora_rank))


def _adapted(model: Any) -> Any:
    """The model inside PEFT's with its adapters, which `whole_model` merges; those on experts PEFT merges."""
    inner = model.get_base_model()
    return model.merge_and_unload() if lora.on_experts(inner) else inner


def _lora(rank: int) -> Any:
    """Adapters on every linear layer, scaled by 2 (alpha = 2 r)."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def trainer_arguments(config: SFTConfig, checkpoints: Path, seed: int) -> dict[str, Any]:
    """Arguments of TRL's `SFTConfig`. The trainer saves checkpoints alone, and reports nothing.

    Rows come with their labels and none is too long, so the trainer cuts nothing. Raises `UsageError`.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    # Without a launcher the trainer spreads each pass over all GPUs of its one process.
    devices = process_count() if process_count() > 1 else max(1, torch.cuda.device_count())
    rows, passes = rows_and_passes(config.batch_size, config.device_batch_size, devices)
    return {
        "output_dir": str(checkpoints),
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": passes,
        "train_sampling_strategy": "group_by_length",
        **packing_arguments(config),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule,
        # Below 1 it is a share of the steps.
        "warmup_steps": config.warmup,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": config.gradient_checkpointing,
        "bf16": half(),
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": config.checkpoint_every,
        # The one before stays until the newest is whole.
        "save_total_limit": config.keep_checkpoints + 1,
        "seed": seed,
        "data_seed": seed,
    }


def rows_and_passes(batch_size: int, device_batch_size: int, devices: int) -> tuple[int, int]:
    """Rows per pass and passes per update of each device; all devices together take `batch_size` rows.

    Rows per pass are at most `device_batch_size`. Raises `UsageError` where the devices cannot share equally.
    """
    own, rest = divmod(batch_size, devices)
    if rest:
        raise UsageError(
            f"train.sft.batch_size is {batch_size}, which {devices} devices cannot share equally; set it to "
            f"a multiple of {devices}"
        )
    rows = max(size for size in range(1, min(own, device_batch_size) + 1) if own % size == 0)
    return rows, own // rows
