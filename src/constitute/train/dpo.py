"""Direct preference optimisation on soft labels: no reward model, no sampling.

The loss is the cross-entropy of sigmoid(beta * ((log pi - log ref)(chosen) - (log pi - log ref)(rejected)))
against P(chosen): arXiv 2305.18290, equation 7, with the soft targets of arXiv 2309.00267, section 2.2.
Deviates from the former in that P(chosen) need not be 1. The reference is the policy at the start; its
log-probabilities are taken once, before the first update.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from constitute.config.train import DPOConfig, RewardConfig
from constitute.data.pairs import read_preferences
from constitute.engines.render import Renderer
from constitute.engines.tokenizer import check_trainable, eos_ids, load_tokenizer
from constitute.errors import DataError
from constitute.progress import Progress
from constitute.train.common import lora, sharding
from constitute.train.common.artefact import finished, model_fingerprint, publish, recipe
from constitute.train.common.batching import collate, micro_batches
from constitute.train.common.data import data_hash
from constitute.train.common.fit import drop_checkpoints, fit
from constitute.train.common.losses import soft_label_loss
from constitute.train.common.memory import memory_advice
from constitute.train.common.metrics import Figure, mean_figure, preference_metrics
from constitute.train.common.models import Actor, check_actor, load_model
from constitute.train.common.team import Team, gather_team
from constitute.train.common.trainer import loss_figures, save_into
from constitute.train.reward.pairs import Split, TokenPair, consecutive, split_pairs, target

_KNOBS = "train.dpo.microbatch_tokens or train.dpo.max_length, or set train.dpo.gradient_checkpointing=true"


@dataclass(frozen=True)
class PairLogprobs:
    """Log-probabilities of N pairs' answers, (N,) each: summed over the answer's tokens, in nats."""

    chosen_N: Tensor
    rejected_N: Tensor


def train_dpo(
    data: Path, model: str, out: Path, config: DPOConfig, *, seed: int, progress: Progress
) -> dict[str, Any]:
    """Train `model` on the labelled pairs in `data` by DPO and save a plain Hugging Face folder to `out`.

    Started again, it goes on from its last checkpoint. Returns the summary: pairs used and left out, loss
    over the first and the last tenth of the steps, and the figures of `implicit_rewards` on held-out
    prompts. Raises `UsageError`, `DataError`, `RunMismatch`, `GateFailed`.
    """
    pairs = read_preferences(data, progress.note)
    made_by = recipe("dpo", config, seed, data=data_hash(data), model=model_fingerprint(model))
    done = finished(out, made_by)
    if done is not None:
        return done
    # Of several processes each is given its device here, before a model is placed.
    team = gather_team()
    start = time.perf_counter()
    tokenizer = load_tokenizer(model)
    check_trainable(tokenizer, model)
    actor = _actor(model, config, seed, team)
    network = actor.model
    ends = eos_ids(tokenizer, network.config, network.generation_config)
    split = split_pairs(pairs, Renderer(tokenizer, model, ends), _pair_settings(config), seed)
    if not split.train:
        raise DataError(_nothing_left(data, len(pairs), split, config))
    # Lengths say what is padding, so any valid id does where a model has no pad token.
    pad_id = tokenizer.pad_token_id or 0
    with memory_advice(_KNOBS), team.phase("train dpo"):
        known, known_held = (
            answer_logprobs(actor, part, pad_id, config.microbatch_tokens)
            for part in (split.train, split.held_out)
        )
        referred = time.perf_counter()
        losses = fit_dpo(
            actor, known, split.train, config, pad_id=pad_id, out=out, made_by=made_by, seed=seed,
            progress=progress,
        )  # fmt: skip
        trained = time.perf_counter()
        after = answer_logprobs(actor, split.held_out, pad_id, config.microbatch_tokens)
    probs = [pair.row.chosen_prob for pair in split.held_out]
    summary = {
        "pairs": len(split.train),
        "pairs_held_out": len(split.held_out),
        "pairs_too_long": split.too_long,
        "pairs_weightless": split.weightless,
        "pairs_undecided": split.undecided,
        **loss_figures(losses),
        "held_out": implicit_rewards(after, known_held, probs, config.beta, seed),
        "seconds": round(time.perf_counter() - start, 3),
        "seconds_reference": round(referred - start, 3),
        "seconds_training": round(trained - referred, 3),
    }
    with team.phase("save"):
        tuned = sharding.whole_model(network) if team.saves else None
    if team.main:
        publish(out, save_into(tuned, tokenizer, losses), made_by=made_by, summary=summary, base=model)
        drop_checkpoints(out)
    return summary


def fit_dpo(
    actor: Actor,
    reference: PairLogprobs,
    pairs: Sequence[TokenPair],
    config: DPOConfig,
    *,
    pad_id: int,
    out: Path,
    made_by: dict[str, Any],
    seed: int,
    progress: Progress,
) -> list[float]:
    """Train the actor's weights, or with `config.lora_rank` adapters put into it, on pairs in tokens.

    `reference` holds the log-probabilities of the same pairs under the reference. Returns the loss of
    each step. Raises as `fit.fit` does.
    """
    network: Any = actor.model
    if config.lora_rank and not lora.layers(network):
        torch.manual_seed(seed)
        lora.add_adapter(network, lora.POLICY, config.lora_rank)
    return fit(
        actor,
        [pair.tokens for pair in pairs],
        dpo_losses(actor, reference, pairs, config, pad_id),
        weights=[pair.row.weight for pair in pairs],
        stage="dpo",
        config=config,
        out=out,
        made_by=made_by,
        seed=seed,
        progress=progress,
        cut=consecutive,
    )


def dpo_losses(
    actor: Actor, reference: PairLogprobs, pairs: Sequence[TokenPair], config: DPOConfig, pad_id: int
) -> Callable[[Sequence[int]], Tensor]:
    """The function from rows of `pairs` to their summed, weighted loss, with its graph."""
    device = actor.model.device
    target_N = torch.tensor([target(pair.row.chosen_prob, config.labels) for pair in pairs], device=device)
    weight_N = torch.tensor([pair.row.weight for pair in pairs], device=device)

    def loss_sum(rows: Sequence[int]) -> Tensor:
        index = list(rows)
        now = _pair_logprobs(actor, [pairs[row] for row in index], pad_id, config.microbatch_tokens)
        chosen_B = config.beta * (now.chosen_N - reference.chosen_N[index])
        rejected_B = config.beta * (now.rejected_N - reference.rejected_N[index])
        return (soft_label_loss(chosen_B, rejected_B, target_N[index]) * weight_N[index]).sum()

    return loss_sum


@torch.no_grad()
def answer_logprobs(actor: Actor, pairs: Sequence[TokenPair], pad_id: int, token_budget: int) -> PairLogprobs:
    """Log-probabilities of both answers of each pair, at temperature 1, without a graph."""
    device = actor.model.device
    chosen_N, rejected_N = torch.zeros(len(pairs), device=device), torch.zeros(len(pairs), device=device)
    for rows in consecutive([pair.tokens for pair in pairs], token_budget):
        with _autocast(device):
            found = _pair_logprobs(actor, [pairs[row] for row in rows], pad_id, token_budget)
        chosen_N[rows], rejected_N[rows] = found.chosen_N, found.rejected_N
    return PairLogprobs(chosen_N, rejected_N)


def implicit_rewards(
    policy: PairLogprobs, reference: PairLogprobs, chosen_probs: Sequence[float], beta: float, seed: int
) -> dict[str, Figure]:
    """How well r = beta * (log pi - log ref) (arXiv 2305.18290, equation 5) predicts the labels.

    The figures of `preference_metrics` for r(chosen) - r(rejected), and the mean log-ratio of either side
    in nats per answer with a bootstrap interval. No pairs give no figures.
    """
    if not chosen_probs:
        return {}
    chosen = (policy.chosen_N - reference.chosen_N).tolist()
    rejected = (policy.rejected_N - reference.rejected_N).tolist()
    margins = [beta * (won - lost) for won, lost in zip(chosen, rejected, strict=True)]
    rng = random.Random(seed)
    return preference_metrics(margins, chosen_probs, seed) | {
        "log_ratio_chosen": mean_figure(chosen, rng),
        "log_ratio_rejected": mean_figure(rejected, rng),
    }


def _pair_logprobs(actor: Actor, pairs: Sequence[TokenPair], pad_id: int, token_budget: int) -> PairLogprobs:
    """Both sides together, in groups of like length, so that a short side is not padded to its partner."""
    sequences = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    starts = [pair.prompt_length for pair in pairs] * 2
    device = actor.model.device
    groups = micro_batches([len(sequence) for sequence in sequences], token_budget)
    groups = sharding.in_step(actor, groups)
    parts = []
    for group in groups:
        batch = collate([sequences[row] for row in group], [starts[row] for row in group], pad_id, device)
        logprobs_N, _ = actor(batch, 1.0)
        own = torch.tensor(
            [len(sequences[row]) - starts[row] for row in group], dtype=torch.long, device=device
        )
        row_N = torch.arange(len(group), device=device).repeat_interleave(own)
        parts.append(torch.zeros(len(group), device=device).index_add(0, row_N, logprobs_N))
    places = torch.tensor([place for group in groups for place in group], dtype=torch.long, device=device)
    chosen_B, rejected_B = torch.cat(parts)[places.argsort()].chunk(2)
    return PairLogprobs(chosen_B, rejected_B)


def _actor(model: str, config: DPOConfig, seed: int, team: Team) -> Actor:
    from transformers import AutoModelForCausalLM, set_seed

    set_seed(seed)
    network = load_model(AutoModelForCausalLM, model, dtype=torch.float32)
    network.to(team.load_device)
    actor = Actor(network)
    check_actor(actor, model)
    if team.sharding is not None:
        if config.lora_rank:
            # Before the weights are split. Adapters start without effect, so the reference is the same.
            torch.manual_seed(seed)
            lora.add_adapter(network, lora.POLICY, config.lora_rank)
        sharding.shard_actor(team.sharding, actor)
    return actor


def _pair_settings(config: DPOConfig) -> RewardConfig:
    """The settings by which pairs are split: what is said of labels, length and the held-out share."""
    return RewardConfig(labels=config.labels, max_length=config.max_length, held_out=config.held_out)


def _nothing_left(data: Path, n: int, split: Split, config: DPOConfig) -> str:
    return (
        f"no pair of {data} is left to train on: of {n}, {split.too_long} are longer than "
        f"{config.max_length} tokens, {split.weightless} have weight 0, {split.undecided} name no better "
        f"side and {len(split.held_out)} are held out; raise train.dpo.max_length or lower "
        "train.dpo.held_out"
    )


def _autocast(device: torch.device) -> AbstractContextManager[Any]:
    """The precision of the training steps, so that policy and reference are the same at the start."""
    wanted = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)
