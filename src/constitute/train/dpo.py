"""Direct preference optimisation on soft labels, and other losses of pairs: no reward model, no sampling.

The loss is one of `preference_losses`, as a rule DPO's (arXiv 2305.18290, equation 7) with the soft targets
of arXiv 2309.00267, section 2.2. The reference is the policy at the start; its log-probabilities are taken
once, before the first update.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic_core import to_jsonable_python
from torch import Tensor

from constitute.config import RunConfig
from constitute.config.data import ReadConfig
from constitute.config.train import FOOTPRINT, DPOConfig, Footprint
from constitute.data.pairs import read_preferences
from constitute.data.prompts import READ
from constitute.data.rows import Sources
from constitute.data.sets import exported_file
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import check_trainable, load_tokenizer, turn_ends
from constitute.errors import DataError
from constitute.progress import Progress, Silent
from constitute.registry import registered
from constitute.stats import Estimate, mean_of
from constitute.threads import use_threads
from constitute.train.common import sharding
from constitute.train.common.actor import add_adapters, open_actor, sequence_logprobs
from constitute.train.common.artefact import (
    finished,
    loss_figures,
    model_identity,
    publish,
    recipe,
    rendering_inputs,
    save_into,
)
from constitute.train.common.batching import Batching
from constitute.train.common.data import data_hash, reading_inputs
from constitute.train.common.fit import Job, drop_checkpoints, fit
from constitute.train.common.from_run import keep_settings, on_one_day, policy_of
from constitute.train.common.lora import note_rate
from constitute.train.common.memory import memory_advice
from constitute.train.common.metrics import few_held_out, preference_metrics
from constitute.train.common.models import Actor
from constitute.train.common.precision import autocast, saved_dtype
from constitute.train.common.team import gather_team
from constitute.train.common.trust import check_labels
from constitute.train.preference_losses import UNPAIRED, Answers, check_loss, preference_loss, soft
from constitute.train.reward.pairs import Split, TokenPair, consecutive, nothing_left, split_pairs, target

KNOBS = (
    "train.dpo.microbatch_tokens or train.dpo.max_length, or set train.dpo.gradient_checkpointing=true or "
    "train.dpo.lora_rank=16"
)


@dataclass(frozen=True)
class PairLogprobs:
    """Log-probabilities of N pairs' answers, (N,) each: summed over the answer's tokens, in nats."""

    chosen_N: Tensor
    rejected_N: Tensor


def run_dpo(
    config: RunConfig,
    *,
    data: Sources | None = None,
    model: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Train `model` (RUN/sft, else `config.model`) by DPO on `data` (RUN/export/preferences.*).

    Saves it to `out` (RUN/dpo) and returns the summary. Raises `GateFailed` for labels that say nothing,
    unless `force`.
    """
    start = policy_of(config, model)
    use_threads(start, config.engine.threads, training=True)
    progress, data = progress or Silent(), data or exported_file(config.run, "preferences")
    check_labels(data, progress, force=force)
    folder = out or config.run / "dpo"
    note_rate(config.train.dpo, "dpo", progress)
    loss = config.train.dpo.loss
    train = registered(UNPAIRED, loss, "loss") if loss in UNPAIRED else train_dpo
    with on_one_day(config, folder) as config:
        summary: dict[str, Any] = train(
            data,
            start,
            folder,
            config.train.dpo,
            seed=config.seed,
            progress=progress,
            rendering=RenderSettings.of(config.engine),
            reading=config.read,
            footprint=config.train.footprint,
        )
    if out is None:
        keep_settings(config, "dpo")
    return summary


def train_dpo(
    data: Sources,
    model: str,
    out: Path,
    config: DPOConfig,
    *,
    seed: int,
    progress: Progress,
    rendering: RenderSettings | None = None,
    reading: ReadConfig = READ,
    footprint: Footprint = FOOTPRINT,
) -> dict[str, Any]:
    """Train `model` on the labelled pairs in `data` by DPO and save a plain Hugging Face folder to `out`.

    Started again, it goes on from its last checkpoint. Returns the summary: pairs used and left out, loss
    over the first and the last tenth of the steps, and the figures of `implicit_rewards` on held-out
    prompts. Raises `UsageError`, `DataError`, `RunMismatch`, `GateFailed`.
    """
    check_loss(config)
    pairs = read_preferences(data, progress.note, reading)
    inputs = {"data": data_hash(data), "model": model_identity(model), **rendering_inputs(rendering)}
    inputs |= reading_inputs(reading) | footprint.inputs
    made_by = recipe("dpo", config, seed, **inputs)
    done = finished(out, made_by)
    if done is not None:
        return done
    # Each of several processes is given its device here, before a model is placed.
    team = gather_team()
    start = time.perf_counter()
    with progress.waiting(f"loading {model}"), memory_advice(KNOBS):
        tokenizer = load_tokenizer(model)
        check_trainable(tokenizer, model)
        actor = open_actor(model, config, seed, team)
    renderer = Renderer(tokenizer, model, turn_ends(model, tokenizer), rendering)
    with progress.waiting(f"tokenising {len(pairs)} pairs"):
        split = split_pairs(pairs, renderer, config, seed)
    if not split.train:
        raise DataError(nothing_left("dpo", len(pairs), split, config))
    # Lengths say what is padding, so any valid id does where a model has no pad token.
    batching = Batching(tokenizer.pad_token_id or 0, config.microbatch_tokens)
    job = Job("dpo", out, made_by, seed, progress, footprint.optimizer)
    losses, held_out, (began, ended) = _learn(actor, split, config, job, batching)
    summary = {
        **split.counts(),
        **loss_figures(losses),
        "held_out": to_jsonable_python(held_out),
        **held_out_doubt(len(split.held_out)),
        "seconds": round(time.perf_counter() - start, 3),
        "seconds_reference": round(began - start, 3),
        "seconds_training": round(ended - began, 3),
    }
    with team.phase("save"):
        dtype = saved_dtype(footprint.save_dtype, model)
        tuned = sharding.whole_model(actor.model, dtype) if team.saves else None
    if team.main:
        publish(out, save_into(tuned, tokenizer, losses), made_by=made_by, summary=summary, base=model)
        drop_checkpoints(out)
    return summary


def held_out_doubt(pairs: int) -> dict[str, str]:
    """What the summary says of so many pairs held out."""
    more = "give more pairs, or raise train.dpo.held_out"
    found = few_held_out(f"{pairs} pair{'' if pairs == 1 else 's'}", pairs, more) if pairs else ""
    return {"held_out_doubt": found} if found else {}


def _learn(
    actor: Actor, split: Split, config: DPOConfig, job: Job, batching: Batching
) -> tuple[list[float], dict[str, Estimate], tuple[float, float]]:
    """Train the actor; the loss of each step, the held-out figures, and when the steps began and ended."""
    with memory_advice(KNOBS), gather_team().phase("train dpo"):
        needed = preference_loss(config).needs_reference
        known = answer_logprobs(actor, split.train, batching) if needed else None
        known_held = answer_logprobs(actor, split.held_out, batching)
        began = time.perf_counter()
        losses = fit_dpo(actor, known, split.train, config, job, pad_id=batching.pad_id)
        ended = time.perf_counter()
        after = answer_logprobs(actor, split.held_out, batching)
    probs = [pair.row.chosen_prob for pair in split.held_out]
    return losses, implicit_rewards(after, known_held, probs, config.beta, job.seed), (began, ended)


def fit_dpo(
    actor: Actor,
    reference: PairLogprobs | None,
    pairs: Sequence[TokenPair],
    config: DPOConfig,
    job: Job,
    *,
    pad_id: int,
) -> list[float]:
    """Train the actor's weights, or with `config.lora_rank` adapters put into it, on pairs in tokens.

    `reference` holds the log-probabilities of the same pairs under the reference, None for a loss that has
    none. Returns the loss of each step. Raises as `fit.fit` does.
    """
    add_adapters(actor, config, job.seed)
    return fit(
        actor,
        [pair.tokens for pair in pairs],
        dpo_losses(actor, reference, pairs, config, pad_id),
        config,
        job,
        weights=[pair.row.weight for pair in pairs],
        cut=consecutive,
    )


def dpo_losses(
    actor: Actor,
    reference: PairLogprobs | None,
    pairs: Sequence[TokenPair],
    config: DPOConfig,
    pad_id: int,
) -> Callable[[Sequence[int]], Tensor]:
    """The function from rows of `pairs` to their summed, weighted loss, with its graph."""
    device, batching = actor.model.device, Batching(pad_id, config.microbatch_tokens)
    target_N = torch.tensor([target(pair.row.chosen_prob, config.labels) for pair in pairs], device=device)
    weight_N = torch.tensor([pair.row.weight for pair in pairs], device=device)
    chosen_lengths_N, rejected_lengths_N = (
        torch.tensor([len(getattr(pair, side)) - pair.prompt_length for pair in pairs], device=device)
        for side in ("chosen", "rejected")
    )
    zeros_N = torch.zeros(len(pairs), device=device)
    known = reference or PairLogprobs(zeros_N, zeros_N)
    loss = preference_loss(config).loss

    def loss_sum(rows: Sequence[int]) -> Tensor:
        index = list(rows)
        now = _pair_logprobs(actor, [pairs[row] for row in index], batching)
        chosen = Answers(now.chosen_N, known.chosen_N[index], chosen_lengths_N[index])
        rejected = Answers(now.rejected_N, known.rejected_N[index], rejected_lengths_N[index])
        losses_B = soft(loss, chosen, rejected, target_N[index], config)
        return (losses_B * weight_N[index]).sum()

    return loss_sum


@torch.no_grad()
def answer_logprobs(actor: Actor, pairs: Sequence[TokenPair], batching: Batching) -> PairLogprobs:
    """Log-probabilities of both answers of each pair, at temperature 1, without a graph."""
    device = actor.model.device
    chosen_N, rejected_N = torch.zeros(len(pairs), device=device), torch.zeros(len(pairs), device=device)
    for rows in consecutive([pair.tokens for pair in pairs], batching.token_budget):
        with autocast(device):
            found = _pair_logprobs(actor, [pairs[row] for row in rows], batching)
        chosen_N[rows], rejected_N[rows] = found.chosen_N, found.rejected_N
    return PairLogprobs(chosen_N, rejected_N)


def implicit_rewards(
    policy: PairLogprobs, reference: PairLogprobs, chosen_probs: Sequence[float], beta: float, seed: int
) -> dict[str, Estimate]:
    """How well r = beta * (log pi - log ref) (arXiv 2305.18290, equation 5) predicts the labels.

    The figures of `preference_metrics` for r(chosen) - r(rejected), and the mean log-ratio of either side
    in nats per answer with a bootstrap interval. No pairs give no figures.
    """
    if not chosen_probs:
        return {}
    chosen = (policy.chosen_N - reference.chosen_N).tolist()
    rejected = (policy.rejected_N - reference.rejected_N).tolist()
    margins = [beta * (won - lost) for won, lost in zip(chosen, rejected, strict=True)]
    return preference_metrics(margins, chosen_probs, seed) | {
        "log_ratio_chosen": mean_of(chosen, seed),
        "log_ratio_rejected": mean_of(rejected, seed),
    }


def _pair_logprobs(actor: Actor, pairs: Sequence[TokenPair], batching: Batching) -> PairLogprobs:
    """Both sides together, in groups of like length, so that a short side is not padded to its partner."""
    sequences = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    starts = [pair.prompt_length for pair in pairs] * 2
    chosen_B, rejected_B = sequence_logprobs(actor, sequences, starts, batching).chunk(2)
    return PairLogprobs(chosen_B, rejected_B)
