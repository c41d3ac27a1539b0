"""Supervised fine-tuning on revisions: TRL's SFTTrainer, loss on the assistant's tokens alone."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from constitute.config.train import SFTConfig
from constitute.errors import DataError
from constitute.progress import Progress
from constitute.train import _compat
from constitute.train.artefact import finished, model_fingerprint, publish, recipe
from constitute.train.data import data_hash, read_conversations
from constitute.train.memory import memory_advice
from constitute.train.models import load_model, load_tokenizer
from constitute.train.render import check_template, conversation_ids, eos_ids
from constitute.train.trainer import (
    common_arguments,
    loss_figures,
    reporting,
    save_into,
    without_printer,
)


def train_sft(
    data: Path, model: str, out: Path, config: SFTConfig, *, seed: int, progress: Progress
) -> dict[str, Any]:
    """Fine-tune `model` on the conversations in `data` and save a plain Hugging Face folder to `out`.

    Returns the summary: rows trained on, rows too long, loss (nats per assistant token) over the first
    and the last tenth of the steps, seconds. Raises `UsageError`, `DataError`, `RunMismatch`, `GateFailed`.
    """
    conversations = read_conversations(data)
    made_by = recipe("sft", config, seed, data=data_hash(data), model=model_fingerprint(model))
    done = finished(out, made_by)
    if done is not None:
        return done
    _compat.quiet()
    start = time.perf_counter()
    tokenizer = load_tokenizer(model)
    check_template(tokenizer, model)
    network = _network(model, seed)
    ends = eos_ids(tokenizer, network.config, network.generation_config)
    rows = [conversation_ids(tokenizer, turns, ends) for turns in conversations]
    kept = [row for row in rows if len(row[0]) <= config.max_length]
    if not kept:
        raise DataError(f"all {len(rows)} conversations of {data} are longer than {config.max_length} tokens")
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, memory_advice(_KNOBS):
        trainer = _trainer(network, tokenizer, kept, config, Path(scratch), seed)
        trainer.add_callback(reporting("sft", progress, losses))
        without_printer(trainer).train()
    tuned = trainer.model.merge_and_unload() if config.lora_rank else trainer.model
    summary = {
        "rows": len(kept),
        "rows_too_long": len(rows) - len(kept),
        "tokens": sum(len(ids) for ids, _ in kept),
        **loss_figures(losses),
        "seconds": round(time.perf_counter() - start, 3),
    }
    publish(out, save_into(tuned, tokenizer, losses), made_by=made_by, summary=summary, base=model)
    return summary


_KNOBS = "train.sft.device_batch_size or train.sft.max_length, or set train.sft.gradient_checkpointing=true"


def _network(model: str, seed: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(seed)
    return load_model(AutoModelForCausalLM, model, dtype=torch.float32)


def _trainer(
    network: Any,
    tokenizer: Any,
    rows: list[tuple[list[int], list[int]]],
    config: SFTConfig,
    scratch: Path,
    seed: int,
) -> Any:
    """TRL's trainer on rows already in tokens: nothing is left for it to render, cut or drop."""
    from datasets import Dataset

    trainer_class, config_class = _compat.sft_trainer()
    columns = {
        "input_ids": [ids for ids, _ in rows],
        "labels": [labels for _, labels in rows],
        "length": [len(ids) for ids, _ in rows],
    }
    arguments = config_class(
        **common_arguments(config, scratch, seed),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return trainer_class(
        model=network,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
        peft_config=_lora(config.lora_rank) if config.lora_rank else None,
    )


def _lora(rank: int) -> Any:
    """Adapters on every linear layer, scaled by 2 (alpha = 2 r)."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
