"""Supervised fine-tuning on revisions: TRL's SFTTrainer, loss on the tokens of the answers alone."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.config.data import ReadConfig
from constitute.config.train import SFTConfig
from constitute.data.prompts import READ
from constitute.data.rows import Sources, source_names
from constitute.data.sets import exported_file
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import check_trainable, load_tokenizer, turn_ends
from constitute.errors import DataError, UsageError
from constitute.files import write_text
from constitute.progress import Progress, Silent, first_process, process_count
from constitute.threads import use_threads
from constitute.train.common import _compat, sharding
from constitute.train.common.artefact import (
    finished,
    loss_figures,
    model_identity,
    publish,
    recipe,
    rendering_inputs,
    save_into,
)
from constitute.train.common.data import Conversation, TokenRow, data_hash, read_conversations, reading_inputs
from constitute.train.common.fit import Job, drop_checkpoints
from constitute.train.common.from_run import keep_settings, on_its_day, trainable_model
from constitute.train.common.memory import memory_advice
from constitute.train.common.models import load_model
from constitute.train.common.trust import check_labels
from constitute.train.imitation.callback import HELD_OUT, callback, last_whole
from constitute.train.imitation.held_out import Evaluation, split_conversations
from constitute.train.imitation.packing import check_packs, packing_arguments

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
) -> dict[str, Any]:
    """Fine-tune `model` on the conversations in `data` and save a plain Hugging Face folder to `out`.

    With `config.mix_data`, a share `config.mix_ratio` of the rows is drawn from there. Started again, it
    goes on from its last checkpoint. `kind` is what its card calls it. Returns the summary: rows trained
    on, of them mixed in, rows too long, loss (nats per assistant token) over the first and the last tenth
    of the steps, the loss on rows held out, seconds. Raises `UsageError`, `DataError`, `RunMismatch`,
    `GateFailed`.
    """
    with progress.waiting(f"reading {source_names(data)}"):
        conversations = read_conversations(data, config.loss, reading, progress.note)
    mixed = (
        []
        if config.mix_data is None
        else (read_conversations(config.mix_data, config.loss, reading, progress.note))
    )
    inputs = {"data": data_hash(data), "model": model_identity(model), **rendering_inputs(rendering)}
    inputs |= reading_inputs(reading)
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
        learned, kept_out = split_conversations(conversations, config.held_out, seed)
        own, too_long = _fitting(learned, None, renderer, config.max_length)
        held_out, held_out_too_long = _fitting(kept_out, None, renderer, config.max_length)
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
    job = Job("sft", out, made_by, seed, progress)
    tokens = sum(len(ids) for ids, _ in [*own, *added])
    with progress.waiting(f"loading {model} to train it on {len(own) + len(added)} rows, {tokens} tokens"):
        network = _network(model, seed)
    evaluation = Evaluation(held_out, config.eval_every, tokenizer.pad_token_id or 0)
    tuned, losses = _train(network, tokenizer, [*own, *added], config, job, evaluation)
    summary = {
        "rows": len(own) + len(added),
        "rows_held_out": len(held_out),
        "rows_held_out_too_long": held_out_too_long,
        "rows_too_long": too_long,
        "rows_mixed": len(added),
        "rows_mixed_too_long": added_too_long,
        "tokens": tokens,
        **loss_figures(losses),
        **evaluation.figures(seed),
        "seconds": round(time.perf_counter() - start, 3),
    }
    if first_process():
        with progress.waiting(f"saving to {out}"):
            save = _saving(save_into(tuned, tokenizer, losses), losses, evaluation.points)
            publish(out, save, made_by=made_by, summary=summary, base=model)
            drop_checkpoints(out)
    return summary


def _saving(
    save: Callable[[Path], None], losses: Sequence[float], held_out: dict[int, float]
) -> Callable[[Path], None]:
    """`save`, and the loss on held-out rows beside that of the steps after which it was taken."""

    def both(folder: Path) -> None:
        save(folder)
        lines: list[dict[str, float]] = [
            {"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)
        ]
        for step, loss in held_out.items():
            # The loss before the first step stands in the summary.
            if step:
                lines[step - 1][HELD_OUT] = loss
        write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    return both


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


def _network(model: str, seed: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(seed)
    return load_model(AutoModelForCausalLM, model, dtype=torch.float32)


def _train(
    network: Any,
    tokenizer: Any,
    rows: Sequence[TokenRow],
    config: SFTConfig,
    job: Job,
    held_out: Evaluation,
) -> tuple[Any, list[float]]:
    """The model after training, adapters merged, and the loss of each step."""
    from datasets import Dataset
    from transformers import PrinterCallback

    folder = job.out / "checkpoints"
    checkpoint, losses = last_whole(folder, job)
    trainer_class, config_class = _compat.sft_trainer()
    if config.packing != "none":
        check_packs(network, type(network).__name__)
    columns = {"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]}
    with memory_advice(_KNOBS):
        with job.progress.waiting("setting up the trainer"):
            trainer = trainer_class(
                model=network,
                args=config_class(**trainer_arguments(config, folder, job.seed)),
                train_dataset=Dataset.from_dict(columns),
                processing_class=tokenizer,
                peft_config=_lora(config.lora_rank) if config.lora_rank else None,
                callbacks=[callback(job, losses, len(rows), held_out)],
            )
        # It prints each line of the log to stdout, which belongs to our data.
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    tuned = trainer.model.merge_and_unload() if config.lora_rank else trainer.model
    return sharding.whole_model(tuned), losses


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
