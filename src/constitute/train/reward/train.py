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

import math
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic_core import to_jsonable_python
from torch import Tensor

from constitute.config import RunConfig
from constitute.config.data import ReadConfig
from constitute.config.train import FOOTPRINT, Footprint, RewardConfig
from constitute.data.pairs import read_preferences
from constitute.data.prompts import READ
from constitute.data.rows import Sources, source_names
from constitute.data.sets import exported_file
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import check_trainable, load_tokenizer, pad_of, turn_ends
from constitute.errors import DataError, GateFailed, UsageError
from constitute.progress import Progress, Silent
from constitute.threads import use_threads
from constitute.train.common import lora, sharding
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
from constitute.train.common.from_run import keep_settings, on_its_day, policy_of
from constitute.train.common.memory import memory_advice
from constitute.train.common.models import load_model
from constitute.train.common.precision import autocast, held_dtype, saved_dtype
from constitute.train.common.team import Team, gather_team
from constitute.train.common.trust import check_labels
from constitute.train.reward.evaluate import evaluate
from constitute.train.reward.losses import examples_of
from constitute.train.reward.model import LOWER_BOUND, Normalisation, last_states, raw_scores, score_head
from constitute.train.reward.pairs import TokenPair, consecutive, nothing_left, sides_of, split_pairs
from constitute.train.reward.uncertainty import Uncertainty, measure
from constitute.train.reward.verdict import reward_verdict

# Enough to know a mean and a standard deviation to about 2 %.
_REFERENCE_SAMPLES = 2048
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
    summary = train_reward(
        data,
        start,
        folder,
        config.train.reward,
        seed=config.seed,
        progress=progress,
        labels=labels,
        rendering=RenderSettings.of(on_its_day(config, folder).engine),
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
    with progress.waiting(f"loading {model}"), memory_advice(_KNOBS):
        tokenizer = load_tokenizer(model)
        check_trainable(tokenizer, model)
        pad_id = pad_of(tokenizer, model)
        network, head = _network(model, tokenizer, config, seed)
        _place(team, network, head)
    renderer = Renderer(tokenizer, model, turn_ends(model, tokenizer), rendering)
    with progress.waiting(f"tokenising {len(pairs)} pairs"):
        split = split_pairs(pairs, renderer, config, seed)
    if not split.train:
        raise DataError(nothing_left("reward", len(pairs), split, config))
    check_margins([*split.train, *split.held_out], config)
    batching = Batching(pad_id, config.microbatch_tokens)
    examples = examples_of(network, head, split.train, config, pad_id, seed)
    with memory_advice(_KNOBS), team.phase("train reward"):
        losses = fit(
            network,
            examples.lengths,
            examples.loss_sum,
            config,
            Job("reward", out, made_by, seed, progress, footprint.optimizer),
            weights=examples.weights,
            cut=consecutive,
        )
        trained = time.perf_counter()
        scoring = progress.waiting(
            f"scoring answers to measure the model, {len(split.held_out)} pairs held out"
        )
        with scoring, autocast(team.device):
            normal = _normalisation(
                raw_scores(network, head, _reference(split.train, seed), batching), config
            )
            normal.write(network.config)
            raw_Nk = raw_scores(network, head, sides_of(split.held_out), batching)
            known = None
            if config.combine == LOWER_BOUND:
                known = _uncertainty(network, head, split.train, batching)
    held_out = to_jsonable_python(evaluate(raw_Nk, split.held_out, normal, seed))
    summary = {
        **split.counts(),
        **examples.figures,
        **loss_figures(losses),
        "held_out": held_out,
        **reward_verdict(held_out, labels),
        "normalisation": _described(normal),
        **({} if before is None else {"pretrained": before}),
        "seconds": round(time.perf_counter() - start, 3),
        "seconds_training": round(trained - start, 3),
    }
    with team.phase("save"):
        dtype = saved_dtype(footprint.save_dtype, model)
        tuned = sharding.whole_model(network, dtype) if team.saves else None
    if team.main:
        save = save_into(tuned, tokenizer, losses, ends_of=model)
        publish(out, partial(_save, save, known), made_by=made_by, summary=summary, base=base)
        drop_checkpoints(out)
    return summary


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


def _save(save: Callable[[Path], None], known: Uncertainty | None, folder: Path) -> None:
    save(folder)
    if known is not None:
        known.save(folder)


def _uncertainty(
    network: Any, head: torch.nn.Linear, pairs: Sequence[TokenPair], batching: Batching
) -> Uncertainty:
    """What the pairs leave unknown, by the trunk as it now is."""
    device = head.weight.device
    chosen_ND, rejected_ND = last_states(network, device, sides_of(pairs), batching).chunk(2)
    weights_N = torch.tensor([pair.row.weight for pair in pairs])
    return measure(chosen_ND, rejected_ND, sharding.whole(head.weight.detach())[0].cpu(), weights_N)


def check_margins(pairs: Sequence[TokenPair], config: RewardConfig) -> None:
    """Raise `DataError` where `train.reward.margin` is on and a row has none."""
    without = sum(pair.row.margin is None for pair in pairs)
    if config.margin and without:
        raise DataError(
            f"{without} of {len(pairs)} rows have no `margin`; give each row one or set "
            "train.reward.margin=false"
        )


def _place(team: Team, network: Any, head: torch.nn.Linear) -> None:
    """Put the network where this process computes, or its part of it where weights are sharded."""
    if team.sharding is not None:
        sharding.shard_trunk(team.sharding, network.base_model, head=head)
    network.to(team.device)


def _network(model: str, tokenizer: Any, config: RewardConfig, seed: int) -> tuple[Any, torch.nn.Linear]:
    """A sequence classifier, each row of a new head drawn from N(0, 1/sqrt(d + 1)) (arXiv 2009.01325).

    With `config.lora_rank` its trunk is frozen but for adapters.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

    set_seed(seed)
    heads = config.heads
    try:
        settings = AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as problem:
        raise UsageError(
            f"cannot read the configuration of {model!r} ({type(problem).__name__}); give a model's folder"
        ) from problem
    was_reward = any("SequenceClassification" in name for name in settings.architectures or [])
    if was_reward and settings.num_labels != heads:
        raise UsageError(
            f"{model} is a reward model of {settings.num_labels} heads and train.reward.heads is {heads}; "
            "set it to the same number or start from a language model"
        )
    network = load_model(
        AutoModelForSequenceClassification,
        model,
        new=("score.weight",),
        num_labels=heads,
        dtype=held_dtype(trained=not config.lora_rank),
    )
    network.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    network.config.value_head_prefix = "score"
    head = score_head(network, model, heads).float()
    if not was_reward:
        torch.nn.init.normal_(head.weight, std=1.0 / math.sqrt(head.in_features + 1))
    if config.lora_rank:
        lora.add_adapter(network.base_model, lora.POLICY, config.lora_rank)
    return network, head


def _reference(pairs: Sequence[TokenPair], seed: int) -> list[list[int]]:
    """The answers of both sides, or as many of them as are enough, by which scores are normalised."""
    sequences = sides_of(pairs)
    if len(sequences) > _REFERENCE_SAMPLES:
        sequences = random.Random(f"{seed}:reference").sample(sequences, _REFERENCE_SAMPLES)
    return sequences


def _normalisation(raw_Nk: Tensor, config: RewardConfig) -> Normalisation:
    """Mean and standard deviation of each head's raw scores (arXiv 1909.08593, 2.1)."""
    raw_Nk = raw_Nk.double()
    means, stds = raw_Nk.mean(dim=0).tolist(), raw_Nk.std(dim=0, correction=0).tolist()
    for centre, spread in zip(means, stds, strict=True):
        if not (math.isfinite(spread) and spread > 0):
            raise GateFailed(
                f"the reward model gives every answer the score {centre:.3g}; lower "
                "train.reward.learning_rate or check that the labels differ"
            )
    return Normalisation(tuple(means), tuple(stds), config.combine, config.penalty)


def _described(normal: Normalisation) -> dict[str, Any]:
    if len(normal.means) == 1:
        bound = {"combine": normal.combine, "penalty": normal.penalty}
        found = {"mean": normal.means[0], "std": normal.stds[0]}
        return found | (bound if normal.combine == LOWER_BOUND else {})
    return {
        "mean": list(normal.means),
        "std": list(normal.stds),
        "combine": normal.combine,
        "penalty": normal.penalty,
    }
