"""Supervised fine-tuning on revisions: TRL's SFTTrainer, loss on the assistant's tokens alone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from constitute.config.train import SFTConfig
from constitute.engines.render import Renderer
from constitute.engines.tokenizer import check_trainable, eos_ids, load_tokenizer
from constitute.errors import DataError
from constitute.progress import Progress, first_process
from constitute.train.common import _compat, sharding
from constitute.train.common.artefact import finished, model_fingerprint, publish, recipe
from constitute.train.common.data import Turns, data_hash, read_conversations
from constitute.train.common.fit import drop_checkpoints
from constitute.train.common.memory import memory_advice
from constitute.train.common.models import load_model
from constitute.train.common.trainer import (
    by_length_each_epoch,
    last_whole,
    loss_figures,
    reporting,
    save_into,
    trainer_arguments,
    without_printer,
)

# Token ids of a conversation, and its labels.
Row = tuple[list[int], list[int]]


def train_sft(
    data: Path,
    model: str,
    out: Path,
    config: SFTConfig,
    *,
    seed: int,
    progress: Progress,
    kind: str = "sft",
) -> dict[str, Any]:
    """Fine-tune `model` on the conversations in `data` and save a plain Hugging Face folder to `out`.

    With `config.mix_data`, a share `config.mix_ratio` of the rows is drawn from there. Started again, it
    goes on from its last checkpoint. `kind` is what its card calls it. Returns the summary: rows trained
    on, of them mixed in, rows too long, loss (nats per assistant token) over the first and the last tenth
    of the steps, seconds. Raises `UsageError`, `DataError`, `RunMismatch`, `GateFailed`.
    """
    conversations = read_conversations(data)
    mixed = [] if config.mix_data is None else read_conversations(Path(config.mix_data))
    inputs = {"data": data_hash(data), "model": model_fingerprint(model)}
    if config.mix_data is not None:
        inputs["mix"] = data_hash(Path(config.mix_data))
    made_by = recipe(kind, config, seed, **inputs)
    done = finished(out, made_by)
    if done is not None:
        return done
    _compat.quiet()
    start = time.perf_counter()
    tokenizer = load_tokenizer(model)
    check_trainable(tokenizer, model)
    network = _network(model, seed)
    ends = eos_ids(tokenizer, network.config, network.generation_config)
    render = Renderer(tokenizer, model, ends).conversation_ids
    own, too_long = _fitting(conversations, len(conversations), render, config.max_length)
    if not own:
        raise DataError(
            f"all {too_long} conversations of {data} are longer than {config.max_length} tokens; raise "
            "train.sft.max_length"
        )
    order = random.Random(f"{seed}:mix").sample(mixed, len(mixed))
    wanted = round(len(own) * config.mix_ratio / (1 - config.mix_ratio)) if mixed else 0
    added, added_too_long = _fitting(order, wanted, render, config.max_length)
    if len(added) < wanted:
        progress.note(f"{config.mix_data} has {len(added)} rows to mix in and {wanted} were wanted")
    tuned, losses = _train(network, tokenizer, [*own, *added], config, out, made_by, seed, progress)
    summary = {
        "rows": len(own) + len(added),
        "rows_mixed": len(added),
        "rows_too_long": too_long,
        "rows_mixed_too_long": added_too_long,
        "tokens": sum(len(ids) for ids, _ in [*own, *added]),
        **loss_figures(losses),
        "seconds": round(time.perf_counter() - start, 3),
    }
    if first_process():
        publish(out, save_into(tuned, tokenizer, losses), made_by=made_by, summary=summary, base=model)
        drop_checkpoints(out)
    return summary


def _fitting(
    conversations: Sequence[Turns], wanted: int, render: Callable[[Turns], Row], limit: int
) -> tuple[list[Row], int]:
    """The first `wanted` conversations of at most `limit` tokens, rendered, and how many were longer."""
    rows: list[Row] = []
    too_long = 0
    for turns in conversations:
        if len(rows) == wanted:
            break
        row = render(turns)
        if len(row[0]) <= limit:
            rows.append(row)
        else:
            too_long += 1
    return rows, too_long


def _train(
    network: Any,
    tokenizer: Any,
    rows: list[Row],
    config: SFTConfig,
    out: Path,
    made_by: dict[str, Any],
    seed: int,
    progress: Progress,
) -> tuple[Any, list[float]]:
    """The model after training, adapters merged, and the loss of each step."""
    folder = out / "checkpoints"
    checkpoint, losses = last_whole(folder, out, made_by)
    with memory_advice(_KNOBS):
        trainer = _trainer(network, tokenizer, rows, config, folder, seed)
        trainer.add_callback(reporting("sft", progress, losses))
        without_printer(trainer).train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    tuned = trainer.model.merge_and_unload() if config.lora_rank else trainer.model
    return sharding.whole_model(tuned), losses


_KNOBS = "train.sft.device_batch_size or train.sft.max_length, or set train.sft.gradient_checkpointing=true"


def _network(model: str, seed: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(seed)
    return load_model(AutoModelForCausalLM, model, dtype=torch.float32)


def _trainer(
    network: Any,
    tokenizer: Any,
    rows: list[Row],
    config: SFTConfig,
    checkpoints: Path,
    seed: int,
) -> Any:
    """TRL's trainer on rows already in tokens: nothing is left for it to render, cut or drop."""
    from datasets import Dataset

    trainer_class, config_class = _compat.sft_trainer()
    columns = {"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]}
    arguments = config_class(
        **trainer_arguments(config, checkpoints, seed),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = trainer_class(
        model=network,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
        peft_config=_lora(config.lora_rank) if config.lora_rank else None,
    )
    return by_length_each_epoch(trainer, [len(ids) for ids, _ in rows], config.batch_size, seed)


def _lora(rank: int) -> Any:
    """Adapters on every linear layer, scaled by 2 (alpha = 2 r)."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
