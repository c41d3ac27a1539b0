"""Supervised fine-tuning on revisions: TRL's SFTTrainer, loss on the tokens of the answers alone."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.config.data import ReadConfig
from constitute.config.train import FOOTPRINT, Footprint, SFTConfig
from constitute.data.prompts import READ
from constitute.data.rows import Sources, source_names
from constitute.data.sets import exported_file
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import check_trainable, load_tokenizer, turn_ends
from constitute.errors import DataError, GateFailed, UsageError
from constitute.files import read_json, write_json
from constitute.progress import Progress, Silent, first_process, process_count
from constitute.threads import use_threads
from constitute.train.common import _compat, lora, sharding
from constitute.train.common.artefact import (
    check_recipe,
    finished,
    loss_figures,
    model_identity,
    publish,
    recipe,
    rendering_inputs,
    save_into,
)
from constitute.train.common.data import Conversation, TokenRow, data_hash, read_conversations, reading_inputs
from constitute.train.common.fit import Job, drop_checkpoints, note_single_step
from constitute.train.common.from_run import keep_settings, on_its_day, trainable_model
from constitute.train.common.memory import memory_advice
from constitute.train.common.models import load_model
from constitute.train.common.optimizers import optimizer_class
from constitute.train.common.precision import half, held_dtype, saved_dtype
from constitute.train.common.team import sharded_launch
from constitute.train.common.trust import check_labels

# What PEFT calls the one adapter that TRL puts in.
_ADAPTER = "default"
_KNOBS = "train.sft.device_batch_size or train.sft.max_length, or set train.sft.gradient_checkpointing=true"


def run_sft(
    config: RunConfig,
    *,
    data: Sources | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Fine-tune `config.model` on `data` (RUN/export/sft.*) into `out` (RUN/sft); returns the summary.

    Raises `GateFailed` for answers chosen by labels that say nothing, unless `force`.
    """
    model = trainable_model(config)
    use_threads(model, config.engine.threads, training=True)
    progress, data = progress or Silent(), data or exported_file(config.run, "sft")
    check_labels(data, progress, force=force)
    folder = out or config.run / "sft"
    summary = train_sft(
        data,
        model,
        folder,
        config.train.sft,
        seed=config.seed,
        progress=progress,
        rendering=RenderSettings.of(on_its_day(config, folder).engine),
        reading=config.read,
        footprint=config.train.footprint,
    )
    if out is None:
        keep_settings(config, "sft")
    return summary


def train_sft(
    data: Sources,
    model: str,
    out: Path,
    config: SFTConfig,
    *,
    seed: int,
    progress: Progress,
    kind: str = "sft",
    rendering: RenderSettings | None = None,
    reading: ReadConfig = READ,
    footprint: Footprint = FOOTPRINT,
) -> dict[str, Any]:
    """Fine-tune `model` on the conversations in `data` and save a plain Hugging Face folder to `out`.

    With `config.mix_data`, a share `config.mix_ratio` of the rows is drawn from there. Started again, it
    goes on from its last checkpoint. `kind` is what its card calls it. Returns the summary: rows trained
    on, of them mixed in, rows too long, loss (nats per assistant token) over the first and the last tenth
    of the steps, seconds. Raises `UsageError`, `DataError`, `RunMismatch`, `GateFailed`.
    """
    with progress.waiting(f"reading {source_names(data)}"):
        conversations = read_conversations(data, config.loss, reading, progress.note)
    mixed = (
        []
        if config.mix_data is None
        else (read_conversations(config.mix_data, config.loss, reading, progress.note))
    )
    inputs = {"data": data_hash(data), "model": model_identity(model), **rendering_inputs(rendering)}
    inputs |= reading_inputs(reading) | footprint.inputs
    if config.mix_data is not None:
        inputs["mix"] = data_hash(config.mix_data)
    made_by = recipe(kind, config, seed, **inputs)
    done = finished(out, made_by)
    if done is not None:
        return done
    start = time.perf_counter()
    with progress.waiting("loading the tokenizer"):
        _compat.quiet()
        tokenizer = load_tokenizer(model)
        check_trainable(tokenizer, model)
        renderer = Renderer(tokenizer, model, turn_ends(model, tokenizer), rendering)
    with progress.waiting(f"tokenising {len(conversations)} conversations"):
        own, too_long = _fitting(conversations, None, renderer, config.max_length)
    if not own:
        raise DataError(
            f"all {too_long} rows of {source_names(data)} are longer than {config.max_length} "
            "tokens; raise train.sft.max_length"
        )
    order = random.Random(f"{seed}:mix").sample(mixed, len(mixed))
    wanted = round(len(own) * config.mix_ratio / (1 - config.mix_ratio)) if mixed else 0
    added, added_too_long = _fitting(order, wanted, renderer, config.max_length)
    if len(added) < wanted:
        progress.note(f"{config.mix_data} has {len(added)} rows to mix in and {wanted} were wanted")
    job = Job("sft", out, made_by, seed, progress, footprint.optimizer)
    tokens = sum(len(ids) for ids, _ in [*own, *added])
    with progress.waiting(f"loading {model} to train it on {len(own) + len(added)} rows, {tokens} tokens"):
        network = _network(model, seed, config.lora_rank)
    tuned, losses = _train(network, tokenizer, [*own, *added], config, job)
    # Sharded weights are gathered from all processes.
    tuned = sharding.whole_model(tuned, saved_dtype(footprint.save_dtype, model), _ADAPTER)
    summary = {
        "rows": len(own) + len(added),
        "rows_too_long": too_long,
        "rows_mixed": len(added),
        "rows_mixed_too_long": added_too_long,
        "tokens": tokens,
        **loss_figures(losses),
        "seconds": round(time.perf_counter() - start, 3),
    }
    if first_process():
        with progress.waiting(f"saving to {out}"):
            publish(out, save_into(tuned, tokenizer, losses), made_by=made_by, summary=summary, base=model)
            drop_checkpoints(out)
    return summary


def _fitting(
    conversations: Sequence[Conversation], wanted: int | None, renderer: Renderer, limit: int
) -> tuple[list[TokenRow], int]:
    """The first `wanted` rows of at most `limit` tokens (all for None), and how many were longer."""
    rows: list[TokenRow] = []
    too_long = 0
    for row in (row for one in conversations for row in one.rows(renderer)):
        if len(rows) == wanted:
            break
        if len(row[0]) <= limit:
            rows.append(row)
        else:
            too_long += 1
    return rows, too_long


def _network(model: str, seed: int, lora_rank: int) -> Any:
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(seed)
    return load_model(AutoModelForCausalLM, model, dtype=held_dtype(trained=not lora_rank))


def _train(
    network: Any, tokenizer: Any, rows: Sequence[TokenRow], config: SFTConfig, job: Job
) -> tuple[Any, list[float]]:
    """The model after training, adapters in it, and the loss of each step."""
    from datasets import Dataset
    from transformers import PrinterCallback

    folder = job.out / "checkpoints"
    checkpoint, losses = last_whole(folder, job)
    trainer_class, config_class = _compat.sft_trainer()
    optimizer, settings = optimizer_class(job.optimizer, sharded=sharded_launch())
    columns = {"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]}
    with memory_advice(_KNOBS):
        with job.progress.waiting("setting up the trainer"):
            trainer = trainer_class(
                model=network,
                args=config_class(**trainer_arguments(config, folder, job.seed)),
                train_dataset=Dataset.from_dict(columns),
                processing_class=tokenizer,
                peft_config=_lora(config.lora_rank) if config.lora_rank else None,
                callbacks=[_callback(job, losses, len(rows))],
                optimizer_cls_and_kwargs=(optimizer, {"lr": config.learning_rate, **settings}),
            )
        # It prints each line of the log to stdout, which belongs to our data.
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return _adapted(trainer.model) if config.lora_rank else trainer.model, losses


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
        "max_length": None,
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
        "save_total_limit": 2,
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


def _callback(job: Job, losses: list[float], rows: int) -> Any:
    """A trainer callback that orders the rows, keeps the losses and passes each on.

    It raises `GateFailed` at a loss that is not finite.
    """
    import torch
    from transformers import TrainerCallback

    stage = f"train {job.stage}"

    class Callback(TrainerCallback):  # type: ignore[misc]
        """Sees the start, every epoch, every step and the end."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Say how many steps there will be."""
            job.progress.start(stage, state.max_steps, state.global_step)
            note_single_step(job, state.max_steps, rows)

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

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            """Leave out the checkpoint of the last step: the model itself is saved next.

            A checkpoint at the end of an epoch holds the generator with which the next one starts.
            """
            self.on_epoch_begin(args, state, control)
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
