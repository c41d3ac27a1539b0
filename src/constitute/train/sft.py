"""Supervised fine-tuning on revisions: TRL's SFTTrainer, loss on the tokens of the answers alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
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
from constitute.files import write_text
from constitute.progress import Progress, Silent, first_process
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
from constitute.train.common.data import Conversation, data_hash, read_conversations, reading_inputs
from constitute.train.common.fit import Job, drop_checkpoints
from constitute.train.common.from_run import keep_settings, on_one_day, trainable_model
from constitute.train.common.lora import note_rate
from constitute.train.common.precision import saved_dtype
from constitute.train.common.trust import check_labels
from constitute.train.imitation.held_out import HELD_OUT, Evaluation
from constitute.train.imitation.rows import mixed_in, split_rows
from constitute.train.imitation.trainer import ADAPTER, train_rows


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
    note_rate(config.train.sft, "sft", progress)
    with on_one_day(config, folder) as config:
        summary = train_sft(
            data,
            model,
            folder,
            config.train.sft,
            seed=config.seed,
            progress=progress,
            rendering=RenderSettings.of(config.engine),
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
    of the steps, the loss on rows held out, seconds. Raises `UsageError`, `DataError`, `RunMismatch`,
    `GateFailed`.
    """
    with progress.waiting(f"reading {source_names(data)}"):
        conversations = read_conversations(data, config.loss, reading, progress.note)
    inputs = {"data": data_hash(data), "model": model_identity(model), **rendering_inputs(rendering)}
    inputs |= reading_inputs(reading) | footprint.inputs
    mixed: list[Conversation] = []
    if config.mix_data is not None:
        mixed = read_conversations(config.mix_data, config.loss, reading, progress.note)
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
        split = split_rows(conversations, renderer, config, seed, source_names(data))
    job = Job("sft", out, made_by, seed, progress, footprint.optimizer)
    split = mixed_in(split, mixed, renderer, config, job)
    evaluation = Evaluation(split.held_out, config.eval_every, tokenizer.pad_token_id or 0)
    tuned, losses = train_rows(model, tokenizer, split, config, job, evaluation)
    # Sharded weights are gathered from all processes.
    tuned = sharding.whole_model(tuned, saved_dtype(footprint.save_dtype, model), ADAPTER)
    summary = {
        **split.counts(),
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
