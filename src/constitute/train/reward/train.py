"""A reward model, or an ensemble of heads on one trunk, trained on AI preference labels.

The loss is the cross-entropy of sigmoid(r_chosen - r_rejected - margin) against P(chosen): soft labels
(arXiv 2309.00267, section 2.2), hard ones (Bradley-Terry, arXiv 2203.02155, equation 1) or clamped ones
(arXiv 2212.08073, section 4.1); the margin is that of arXiv 2307.09288, equation 2.

The folder written loads with `AutoModelForSequenceClassification`: `num_labels` = heads, head `score`
without bias. With one head it is OpenRLHF's form as it stands: given as `--reward.model_name_or_path`, the
head is found by `value_head_prefix`, and its option to normalise rewards reads `mean` and `std` from
config.json. OpenRLHF has no form for several heads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from constitute.config import RunConfig
from constitute.config.data import ReadConfig
from constitute.config.train import FOOTPRINT, Footprint, RewardConfig
from constitute.data.pairs import PreferencePair, read_preferences
from constitute.data.prompts import READ
from constitute.data.rows import Sources, source_names
from constitute.data.sets import exported_file
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import check_trainable, load_tokenizer, pad_of, turn_ends
from constitute.errors import DataError
from constitute.progress import Progress, Silent
from constitute.threads import use_threads
from constitute.train.common import sharding
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
from constitute.train.common.precision import autocast, saved_dtype
from constitute.train.common.team import Team, gather_team
from constitute.train.common.trust import check_labels
from constitute.train.reward.evaluate import evaluate
from constitute.train.reward.losses import examples_of
from constitute.train.reward.model import LOWER_BOUND, Normalisation, raw_scores
from constitute.train.reward.network import open_network
from constitute.train.reward.normalise import described, normalisation_of, reference_answers, uncertainty_of
from constitute.train.reward.pairs import check_margins, consecutive, nothing_left, sides_of, split_pairs
from constitute.train.reward.uncertainty import Uncertainty
from constitute.train.reward.verdict import reward_verdict

_KNOBS = (
    "train.reward.microbatch_tokens or train.reward.max_length, or set "
    "train.reward.gradient_checkpointing=true or train.reward.lora_rank=16"
)


def run_reward(
    config: RunConfig,
    *,
    data: Sources | None = None,
    model: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Train a reward model from `model` (RUN/sft, else `config.model`) on `data` (RUN/export/preferences.*).

    Saves it to `out` (RUN/reward) and returns the summary. Raises `GateFailed` for labels that say nothing,
    unless `force`.
    """
    start = policy_of(config, model)
    use_threads(start, config.engine.threads, training=True)
    progress, data = progress or Silent(), data or exported_file(config.run, "preferences")
    labels = check_labels(data, progress, force=force)
    folder = out or config.run / "reward"
    note_rate(config.train.reward, "reward", progress)
    with on_one_day(config, folder) as config:
        summary = train_reward(
            data,
            start,
            folder,
            config.train.reward,
            seed=config.seed,
            progress=progress,
            labels=labels,
            rendering=RenderSettings.of(config.engine),
            reading=config.read,
            footprint=config.train.footprint,
        )
    if out is None:
        keep_settings(config, "reward")
    return summary


def train_reward(
    data: Sources,
    model: str,
    out: Path,
    config: RewardConfig,
    *,
    seed: int,
    progress: Progress,
    labels: str = "",
    rendering: RenderSettings | None = None,
    reading: ReadConfig = READ,
    footprint: Footprint = FOOTPRINT,
) -> dict[str, Any]:
    """Train a reward model from `model` on the labelled pairs in `data` and save it to `out`.

    Its configuration holds each head's mean and standard deviation of the raw score over the training
    answers, by which PPO normalises. Started again, it goes on from its last checkpoint. Returns the
    summary with the held-out figures and, where they show no more than chance, a `verdict` or a `warning`;
    `labels` is the verdict on the labels, where there is one. Raises `UsageError`, `DataError`, `RunMismatch`
    and `GateFailed`.
    """
    with progress.waiting(f"reading {source_names(data)}"):
        pairs = read_preferences(data, progress.note, reading)
    inputs = {"data": data_hash(data), "model": model_identity(model), **rendering_inputs(rendering)}
    inputs |= reading_inputs(reading) | footprint.inputs
    if config.pretrain_data is not None:
        inputs["pretrain_data"] = data_hash(config.pretrain_data)
    made_by = recipe("reward", config, seed, **inputs)
    done = finished(out, made_by)
    if done is not None:
        return done
    # Each of several processes is given its device here, before a model is placed.
    team = gather_team()
    start, base, before = time.perf_counter(), model, None
    if config.pretrain_data is not None:
        with team.phase("pretrain"):
            model, before = _pretrained(model, out, config, seed, progress, rendering, reading)
            # The others load what the first has written.
            team.share(None)
    job = Job("reward", out, made_by, seed, progress, footprint.optimizer)
    learnt = _learn(pairs, model, config, job, team, rendering)
    held_out = learnt.figures["held_out"]
    summary = {
        **learnt.figures,
        **reward_verdict(held_out, labels),
        "normalisation": described(learnt.normal),
        **({} if before is None else {"pretrained": before}),
        "seconds": round(time.perf_counter() - start, 3),
        "seconds_training": round(learnt.ended - start, 3),
    }
    with team.phase("save"):
        dtype = saved_dtype(footprint.save_dtype, model)
        tuned = sharding.whole_model(learnt.network, dtype) if team.saves else None
    if team.main:
        save = save_into(tuned, learnt.tokenizer, learnt.losses, ends_of=model)
        publish(out, partial(_save, save, learnt.unknown), made_by=made_by, summary=summary, base=base)
        drop_checkpoints(out)
    return summary


@dataclass(frozen=True)
class _Learnt:
    """A network that has learnt the pairs, and what it is described and saved with.

    `ended` is the time at which its last step was done.
    """

    network: Any
    tokenizer: Any
    losses: list[float]
    ended: float
    normal: Normalisation
    unknown: Uncertainty | None
    figures: dict[str, Any]


def _learn(
    pairs: Sequence[PreferencePair],
    model: str,
    config: RewardConfig,
    job: Job,
    team: Team,
    rendering: RenderSettings | None,
) -> _Learnt:
    """Load `model`, train it on the pairs and score its answers, those held out among them."""
    progress, seed = job.progress, job.seed
    with progress.waiting(f"loading {model}"), memory_advice(_KNOBS):
        tokenizer = load_tokenizer(model)
        check_trainable(tokenizer, model)
        batching = Batching(pad_of(tokenizer, model), config.microbatch_tokens)
        network, head = open_network(model, tokenizer, config, seed, team)
    renderer = Renderer(tokenizer, model, turn_ends(model, tokenizer), rendering)
    with progress.waiting(f"tokenising {len(pairs)} pairs"):
        split = split_pairs(pairs, renderer, config, seed)
    if not split.train:
        raise DataError(nothing_left("reward", len(pairs), split, config))
    check_margins([*split.train, *split.held_out], config)
    examples = examples_of(network, head, split.train, config, batching.pad_id, seed)
    with memory_advice(_KNOBS), team.phase("train reward"):
        losses = fit(
            network,
            examples.lengths,
            examples.loss_sum,
            config,
            job,
            weights=examples.weights,
            cut=consecutive,
        )
        ended = time.perf_counter()
        scoring = progress.waiting(
            f"scoring answers to measure the model, {len(split.held_out)} pairs held out"
        )
        with scoring, autocast(team.device):
            raw_Nk = raw_scores(network, head, reference_answers(split.train, seed), batching)
            normal = normalisation_of(raw_Nk, config)
            normal.write(network.config)
            raw_Nk = raw_scores(network, head, sides_of(split.held_out), batching)
            bounded = config.combine == LOWER_BOUND
            unknown = uncertainty_of(network, head, split.train, batching) if bounded else None
    held_out = to_jsonable_python(evaluate(raw_Nk, split.held_out, normal, seed))
    figures = {**split.counts(), **examples.figures, **loss_figures(losses), "held_out": held_out}
    return _Learnt(network, tokenizer, losses, ended, normal, unknown, figures)


def _pretrained(
    model: str,
    out: Path,
    config: RewardConfig,
    seed: int,
    progress: Progress,
    rendering: RenderSettings | None,
    reading: ReadConfig,
) -> tuple[str, dict[str, Any]]:
    """The reward model trained first on `pretrain_data` (arXiv 2112.00861), and its figures.

    What held-out pairs say of it stops nothing: it is a start.
    """
    assert config.pretrain_data is not None
    first = config.model_copy(
        update={
            "pretrain_data": None,
            "epochs": config.pretrain_epochs,
            "learning_rate": config.pretrain_learning_rate,
            "combine": "mean",
        }
    )
    folder = out / "pretrained"
    summary = train_reward(
        config.pretrain_data,
        model,
        folder,
        first,
        seed=seed,
        progress=progress,
        rendering=rendering,
        reading=reading,
    )
    accuracy = summary["held_out"].get("accuracy")
    return str(folder), {"pairs": summary["pairs"], "steps": summary["steps"], "accuracy": accuracy}


def _save(save: Callable[[Path], None], unknown: Uncertainty | None, folder: Path) -> None:
    save(folder)
    if unknown is not None:
        unknown.save(folder)
