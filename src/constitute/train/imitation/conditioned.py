"""Learn good and bad answers under a condition that tells them apart, and sample under the good one.

Conditional training (arXiv 2302.08582), Chain of Hindsight (arXiv 2302.02676) and hindsight instruction
relabelling (arXiv 2302.05206), each on answers that are there. Deviates: the first conditions whole answers
where the paper conditions sentences of a corpus; the second asks for each answer in a turn of the user; the
third takes answers from a file, and `train quark` is the method here that samples them anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic_core import to_jsonable_python

from constitute.config import RunConfig
from constitute.config.imitation import ConditionedConfig
from constitute.data.rows import Sources, source_names
from constitute.data.sets import exported_file
from constitute.engines.render import Renderer, RenderSettings, TokenRow
from constitute.engines.tokenizer import turn_ends
from constitute.errors import DataError
from constitute.packaged import model_path
from constitute.progress import Progress, Silent
from constitute.stats import mean_of
from constitute.templates import template_hash
from constitute.threads import use_threads
from constitute.train.answers import open_answers
from constitute.train.common import sharding
from constitute.train.common.artefact import (
    finished,
    loss_figures,
    model_identity,
    publish,
    recipe,
    rendering_inputs,
)
from constitute.train.common.batching import micro_batches
from constitute.train.common.data import data_hash, reading_inputs
from constitute.train.common.fit import Job, drop_checkpoints
from constitute.train.common.from_run import keep_settings, on_one_day, policy_of
from constitute.train.common.lora import note_rate
from constitute.train.common.memory import memory_advice
from constitute.train.common.models import Actor
from constitute.train.common.precision import autocast, saved_dtype
from constitute.train.common.team import gather_team
from constitute.train.common.trust import check_labels
from constitute.train.imitation.held_out import RowLoss, held_out, token_mean, token_mean_of
from constitute.train.imitation.judged import Judged, check_scores, limit_of, read_judged, rescored
from constitute.train.imitation.learn import Example, labelled, learn
from constitute.train.imitation.lessons import METHODS, Classroom, classroom
from constitute.train.imitation.start import check_whole, saving, start_actor
from constitute.train.rewards.parts import RewardPart
from constitute.train.rewards.trust import check_rewards
from constitute.types import Prompt

_KNOBS = "train.conditioned.microbatch_tokens or train.conditioned.max_length, or set gradient_checkpointing"
_TEMPLATES = ("hindsight", "hindsight_again")


def run_conditioned(
    config: RunConfig,
    *,
    data: Sources | None = None,
    model: str | None = None,
    reward: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Train `model` (RUN/sft, else `config.model`) on `data` (RUN/export/preferences.*) by `method`.

    `reward` is a source of `rewards.sources` that scores the answers in place of what the rows say. Saves the
    model, whose chat template asks for good answers, to `out` (RUN/conditioned) and returns the summary.
    Raises `GateFailed` for labels, or a reward model, that say nothing, unless `force`.
    """
    start = policy_of(config, model)
    use_threads(start, config.engine.threads, training=True)
    progress, data = progress or Silent(), data or exported_file(config.run, "preferences")
    if reward is None:
        check_labels(data, progress, force=force)
    else:
        check_rewards([RewardPart(reward, model_path(reward))], progress, force=force)
    folder = out or config.run / "conditioned"
    note_rate(config.train.conditioned, "conditioned", progress)
    with on_one_day(config, folder) as config:
        inputs = {"data": data_hash(data), "model": model_identity(start), **reading_inputs(config.read)}
        inputs |= rendering_inputs(RenderSettings.of(config.engine))
        inputs |= {name: template_hash(name) for name in _TEMPLATES} | config.train.footprint.inputs
        if reward is not None:
            inputs["reward"] = f"{reward} {model_identity(reward)}"
        made_by = recipe("conditioned", config.train.conditioned, config.seed, **inputs)
        done = finished(folder, made_by)
        if done is not None:
            return done
        answers, unscored = read_judged(data, config.read, progress.note), 0
        if reward is not None:
            answers, unscored = _scored(answers, reward, config, progress)
        job = Job("conditioned", folder, made_by, config.seed, progress, config.train.optimizer)
        summary = train_conditioned(answers, start, config, job, source_names(data))
    if out is None:
        keep_settings(config, "conditioned")
    return summary | {"answers_unscored": unscored}


def _scored(
    answers: Sequence[Judged], reward: str, config: RunConfig, progress: Progress
) -> tuple[list[Judged], int]:
    prompts = [Prompt(id=str(place), messages=answer.prompt) for place, answer in enumerate(answers)]
    with open_answers(config, reward, progress=progress) as scorer, progress.waiting("scoring the answers"):
        found = scorer.rewards(prompts, [answer.answer for answer in answers])
    return rescored(answers, [each.value for each in found])


def train_conditioned(
    answers: Sequence[Judged], model: str, config: RunConfig, job: Job, named: str
) -> dict[str, Any]:
    """Train `model` on `answers` and save it to the job's folder; returns the summary.

    Raises `UsageError`, `DataError`, `RunMismatch`, `GateFailed`.
    """
    settings, progress, team = config.train.conditioned, job.progress, gather_team()
    method = METHODS[settings.method]
    terms = method.terms(settings)
    if terms.entropy:
        check_whole(team, "train.conditioned.entropy")
    begun = time.perf_counter()
    with progress.waiting(f"loading {model}"):
        actor, tokenizer = start_actor(model, method.tokens, settings.lora_rank, job.seed, team)
    with progress.waiting(f"tokenising {len(answers)} answers"):
        ready = _prepared(answers, _classroom(tokenizer, model, config, job.seed))
    if not ready.examples:
        raise DataError(
            f"nothing of {named} is left to learn: {ready.too_long} sequences are longer than "
            f"{settings.max_length} tokens, and {sum(ready.left_out.values())} have no two kinds or no "
            "decided one; raise train.conditioned.max_length, or give several answers of different scores to "
            "a prompt"
        )
    pad_id = tokenizer.pad_token_id or 0
    with memory_advice(_KNOBS), team.phase("train conditioned"):
        before = condition_figures(actor, ready.held_out, settings, pad_id, job.seed)
        losses = learn(actor, ready.examples, terms, settings, job, pad_id=pad_id)
        after = condition_figures(actor, ready.held_out, settings, pad_id, job.seed)
    summary = {
        "method": settings.method,
        "sequences": len(ready.examples),
        "sequences_held_out": len(ready.held_out),
        "sequences_too_long": ready.too_long,
        **{f"answers_{name}": count for name, count in ready.left_out.items()},
        **loss_figures(losses),
        "held_out_before": before,
        "held_out": after,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    with team.phase("save"):
        dtype = saved_dtype(config.train.save_dtype, model)
        tuned = sharding.whole_model(actor.model, dtype) if team.saves else None
    if team.main:
        save = saving(tuned, tokenizer, method.good_mode(ready.template), losses)
        publish(job.out, save, made_by=job.made_by, summary=summary, base=model)
        drop_checkpoints(job.out)
    return summary


@dataclass(frozen=True)
class _Ready:
    """Sequences to learn and held out, what was left out by reason, and the model's own chat template."""

    examples: list[Example]
    held_out: list[Example]
    too_long: int
    left_out: dict[str, int]
    template: str


def _classroom(tokenizer: Any, model: str, config: RunConfig, seed: int) -> Classroom:
    settings = RenderSettings.of(config.engine)

    def build(own: Any) -> Renderer:
        return Renderer(own, model, turn_ends(model, own), settings)

    return classroom(tokenizer, build, config.train.conditioned, seed)


def _prepared(answers: Sequence[Judged], room: Classroom) -> _Ready:
    """The lessons of the room's method on `answers`, a share of the prompts apart."""
    settings, method = room.config, METHODS[room.config.method]
    check_scores(answers)
    if method.by_kind:
        room = replace(room, limit=limit_of(answers, settings.threshold))
    out = held_out([answer.prompt for answer in answers], settings.held_out, room.seed)
    lessons = method.lessons([one for one, kept in zip(answers, out, strict=True) if not kept], room)
    # Of what is held out every answer is under its condition.
    bare = replace(room, config=settings.model_copy(update={"drop": 0.0}))
    apart = method.lessons([one for one, kept in zip(answers, out, strict=True) if kept], bare)
    examples, long = _fitting(lessons.examples, settings)
    kept_out, long_out = _fitting(apart.examples, settings)
    left_out = {name: count + apart.left_out[name] for name, count in lessons.left_out.items()}
    return _Ready(examples, kept_out, long + long_out, left_out, room.template)


def _fitting(examples: Sequence[Example], config: ConditionedConfig) -> tuple[list[Example], int]:
    """The examples none of whose sequences is longer than the limit, and how many were."""
    kept = [
        example
        for example in examples
        if max(len(ids) for ids, _ in (example.row, *example.others)) <= config.max_length
    ]
    return kept, len(examples) - len(kept)


def condition_figures(
    actor: Actor, examples: Sequence[Example], config: ConditionedConfig, pad_id: int, seed: int
) -> dict[str, Any]:
    """The loss on the examples, and by how much their condition makes them likelier than the other does.

    `gap` is in nats per token, the mean over examples; 0 says that the condition is not heard. No examples
    give no figures.
    """
    if not examples:
        return {}
    own = losses_under(actor, [example.row for example in examples], config.microbatch_tokens, pad_id)
    found: dict[str, Any] = {"loss": to_jsonable_python(token_mean_of(own, seed))}
    if examples[0].others:
        rows = [example.others[0] for example in examples]
        other = losses_under(actor, rows, config.microbatch_tokens, pad_id)
        gaps = [token_mean([there]) - token_mean([here]) for here, there in zip(own, other, strict=True)]
        found["gap"] = to_jsonable_python(mean_of(gaps, f"{seed}:gap"))
    return found


@torch.no_grad()
def losses_under(actor: Actor, rows: Sequence[TokenRow], budget: int, pad_id: int) -> list[RowLoss]:
    """The loss of each row under the actor, in the order given."""
    found: list[RowLoss] = [(0.0, 0)] * len(rows)
    groups = sharding.in_step(actor, micro_batches([len(ids) for ids, _ in rows], budget))
    for group in groups:
        batch = labelled([rows[row] for row in group], pad_id, actor.model.device)
        with autocast(actor.model.device):
            logprobs_N, _ = actor(batch, 1.0)
        counts = [sum(label != -100 for label in rows[row][1]) for row in group]
        for row, part, count in zip(group, logprobs_N.split(counts), counts, strict=True):
            found[row] = (-part.double().sum().item(), count)
    return found
