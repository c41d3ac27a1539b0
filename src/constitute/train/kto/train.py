"""KTO: learn from single answers that are desirable or not (arXiv 2402.01306); no pairs, no reward model.

What an answer gains over the reference is measured from a reference point: how much the policy has moved on
answers to other prompts. Deviates from the paper in that these answers are those of the next prompt of the
data, not of the batch, so that the log-probabilities of the reference are taken once, before the training.
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

from constitute.config.data import ReadConfig
from constitute.config.train import FOOTPRINT, DPOConfig, Footprint
from constitute.data.judged import JudgedAnswer, read_judged
from constitute.data.prompts import READ
from constitute.data.rows import Sources
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import check_trainable, load_tokenizer, turn_ends
from constitute.progress import Progress
from constitute.stats import Estimate, mean_of, share_of
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
from constitute.train.common.memory import memory_advice
from constitute.train.common.models import Actor
from constitute.train.common.precision import autocast, saved_dtype
from constitute.train.common.team import deal, gather_team
from constitute.train.dpo import KNOBS
from constitute.train.kto.answers import TokenAnswer, check_both_kinds, split_answers
from constitute.train.preference_losses import check_loss
from constitute.train.reward.pairs import target


@dataclass(frozen=True)
class AnswerLogprobs:
    """Log-probabilities of N answers and of their mismatched ones, (N,) each, in nats."""

    own_N: Tensor
    mismatched_N: Tensor


def kto(log_ratio_B: Tensor, desirable_B: Tensor, point: Tensor, config: DPOConfig) -> Tensor:
    """lambda (1 - value) of each answer (B,), the value sigmoid(beta (log-ratio - point)) or of the negative.

    `desirable_B` is P(desirable), which weighs both readings; `point` is the reference point z_0 in nats
    (arXiv 2402.01306).
    """
    gain_B = config.beta * (log_ratio_B - point)
    wanted_B = config.kto_desirable * torch.sigmoid(-gain_B)
    unwanted_B = config.kto_undesirable * torch.sigmoid(gain_B)
    return desirable_B * wanted_B + (1.0 - desirable_B) * unwanted_B


def train_kto(
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
    """Train `model` by KTO on the judged answers in `data` and save a plain Hugging Face folder to `out`.

    Started again, it goes on from its last checkpoint. Returns the summary: answers used and left out, loss
    over the first and the last tenth of the steps, and the figures of `held_out_figures`. Raises
    `UsageError`, `DataError`, `RunMismatch`, `GateFailed`.
    """
    check_loss(config)
    answers = read_judged(data, progress.note, config.kto_threshold, reading)
    inputs = {"data": data_hash(data), "model": model_identity(model), **rendering_inputs(rendering)}
    made_by = recipe("kto", config, seed, **inputs, **reading_inputs(reading), **footprint.inputs)
    done = finished(out, made_by)
    if done is not None:
        return done
    team = gather_team()
    start = time.perf_counter()
    with progress.waiting(f"loading {model}"):
        tokenizer = load_tokenizer(model)
        check_trainable(tokenizer, model)
        actor = open_actor(model, config, seed, team)
    renderer = Renderer(tokenizer, model, turn_ends(model, tokenizer), rendering)
    with progress.waiting(f"tokenising {len(answers)} answers"):
        split = split_answers(answers, renderer, config, seed)
    check_both_kinds(split, config, progress)
    batching = Batching(tokenizer.pad_token_id or 0, config.microbatch_tokens)
    with memory_advice(KNOBS), team.phase("train dpo"):
        known, known_held = (logprobs_of(actor, part, batching) for part in (split.train, split.held_out))
        referred = time.perf_counter()
        job = Job("dpo", out, made_by, seed, progress, footprint.optimizer)
        losses = fit_kto(actor, known, split.train, config, job, pad_id=batching.pad_id)
        trained = time.perf_counter()
        after = logprobs_of(actor, split.held_out, batching)
    rows = [answer.row for answer in split.held_out]
    summary = {
        **split.counts(),
        **loss_figures(losses),
        "held_out": to_jsonable_python(held_out_figures(after, known_held, rows, seed)),
        **({"held_out_doubt": split.doubt} if split.doubt else {}),
        "seconds": round(time.perf_counter() - start, 3),
        "seconds_reference": round(referred - start, 3),
        "seconds_training": round(trained - referred, 3),
    }
    with team.phase("save"):
        dtype = saved_dtype(footprint.save_dtype, model)
        tuned = sharding.whole_model(actor.model, dtype) if team.saves else None
    if team.main:
        publish(out, save_into(tuned, tokenizer, losses), made_by=made_by, summary=summary, base=model)
        drop_checkpoints(out)
    return summary


def fit_kto(
    actor: Actor,
    reference: AnswerLogprobs,
    answers: Sequence[TokenAnswer],
    config: DPOConfig,
    job: Job,
    *,
    pad_id: int,
) -> list[float]:
    """Train the actor's weights, or adapters put into it, on answers in tokens; returns each step's loss."""
    add_adapters(actor, config, job.seed)
    before, loss_sum = kto_losses(actor, reference, answers, config, pad_id)
    return fit(
        actor,
        [len(answer.ids) for answer in answers],
        loss_sum,
        config,
        job,
        weights=[answer.row.weight for answer in answers],
        before=before,
    )


def kto_losses(
    actor: Actor,
    reference: AnswerLogprobs,
    answers: Sequence[TokenAnswer],
    config: DPOConfig,
    pad_id: int,
) -> tuple[Callable[[Sequence[int]], None], Callable[[Sequence[int]], Tensor]]:
    """What measures the reference point of a whole batch, and what gives rows' summed, weighted loss.

    The point is max(0, mean log-ratio of the batch's mismatched answers), without a gradient (arXiv
    2402.01306); of several processes each measures its share of the batch.
    """
    team, batching = gather_team(), Batching(pad_id, config.microbatch_tokens)
    device = actor.model.device
    desirable_N = torch.tensor(
        [target(answer.row.desirable_prob, config.labels) for answer in answers], device=device
    )
    weight_N = torch.tensor([answer.row.weight for answer in answers], device=device)
    point = torch.zeros((), device=device)

    def measure(rows: Sequence[int]) -> None:
        lengths = [len(answers[row].mismatched) for row in rows]
        mine = [rows[place] for place in deal(lengths, team.size)[team.rank]]
        now_B = _logprobs(actor, [answers[row] for row in mine], batching, mismatched=True)
        moved = (now_B - reference.mismatched_N[mine]).sum()
        point.copy_((team.sum(moved) / len(rows)).clamp(min=0.0))

    def loss_sum(rows: Sequence[int]) -> Tensor:
        index = list(rows)
        now_B = _logprobs(actor, [answers[row] for row in index], batching)
        losses_B = kto(now_B - reference.own_N[index], desirable_N[index], point, config)
        return (losses_B * weight_N[index]).sum()

    return measure, loss_sum


@torch.no_grad()
def logprobs_of(actor: Actor, answers: Sequence[TokenAnswer], batching: Batching) -> AnswerLogprobs:
    """Log-probabilities of the answers and of their mismatched ones, at temperature 1, without a graph."""
    with autocast(actor.model.device):
        return AnswerLogprobs(
            _logprobs(actor, answers, batching), _logprobs(actor, answers, batching, mismatched=True)
        )


def _logprobs(
    actor: Actor, answers: Sequence[TokenAnswer], batching: Batching, *, mismatched: bool = False
) -> Tensor:
    sequences = [answer.mismatched if mismatched else answer.ids for answer in answers]
    return sequence_logprobs(actor, sequences, [answer.prompt_length for answer in answers], batching)


def held_out_figures(
    policy: AnswerLogprobs, reference: AnswerLogprobs, rows: Sequence[JudgedAnswer], seed: int
) -> dict[str, Estimate | float]:
    """How the policy moved on held-out answers, in nats: the reference point and the log-ratio of each kind.

    `accuracy` is the share of the decided answers on the right side of the point. No answers give no figures.
    """
    if not rows:
        return {}
    ratios = (policy.own_N - reference.own_N).tolist()
    point = max(0.0, (policy.mismatched_N - reference.mismatched_N).mean().item())
    kinds = {
        "desirable": [ratio for ratio, row in zip(ratios, rows, strict=True) if row.desirable_prob > 0.5],
        "undesirable": [ratio for ratio, row in zip(ratios, rows, strict=True) if row.desirable_prob < 0.5],
    }
    figures: dict[str, Estimate | float] = {"reference_point": point}
    figures |= {f"log_ratio_{kind}": mean_of(found, seed) for kind, found in kinds.items() if found}
    right = sum(ratio > point for ratio in kinds["desirable"])
    right += sum(ratio < point for ratio in kinds["undesirable"])
    decided = sum(map(len, kinds.values()))
    return figures | ({"accuracy": share_of(right, decided)} if decided else {})
