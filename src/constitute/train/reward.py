"""A reward model on soft preference labels: TRL's RewardTrainer with the loss of arXiv 2309.00267."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitute.config.train import RewardConfig
from constitute.errors import DataError, GateFailed
from constitute.progress import Progress
from constitute.stats import mean
from constitute.train import _compat
from constitute.train.artefact import finished, model_fingerprint, publish, recipe
from constitute.train.data import Pair, data_hash, read_pairs
from constitute.train.memory import memory_advice
from constitute.train.metrics import preference_metrics
from constitute.train.models import load_model, load_tokenizer
from constitute.train.render import answer_ids, check_pad, check_template, eos_ids, prompt_ids
from constitute.train.scorer import RewardModel, score_head
from constitute.train.trainer import (
    common_arguments,
    loss_figures,
    reporting,
    save_into,
    without_printer,
)

# Enough to know a mean and a standard deviation to about 2 %.
_REFERENCE_SAMPLES = 2048
_EVALUATION_TOKENS = 8192
_KNOBS = (
    "train.reward.device_batch_size or train.reward.max_length, or set "
    "train.reward.gradient_checkpointing=true"
)


@dataclass(frozen=True)
class TokenPair:
    """Both sides of a pair in tokens, prompt included."""

    chosen: list[int]
    rejected: list[int]
    chosen_prob: float


def train_reward(
    data: Path, model: str, out: Path, config: RewardConfig, *, seed: int, progress: Progress
) -> dict[str, Any]:
    """Train a reward model from `model` on the soft-labelled pairs in `data` and save it to `out`.

    The folder loads with `AutoModelForSequenceClassification`; its configuration holds `mean` and `std`
    of the raw scores over the training answers, by which PPO normalises. Returns the summary with the
    held-out figures. Raises `UsageError`, `DataError`, `RunMismatch`, `GateFailed`.
    """
    pairs = read_pairs(data)
    made_by = recipe("reward", config, seed, data=data_hash(data), model=model_fingerprint(model))
    done = finished(out, made_by)
    if done is not None:
        return done
    _compat.quiet()
    start = time.perf_counter()
    tokenizer = load_tokenizer(model)
    check_template(tokenizer, model)
    check_pad(tokenizer, model)
    network = _network(model, tokenizer, seed)
    train, held_out, too_long = _token_pairs(
        pairs, tokenizer, eos_ids(tokenizer, network.config), config, seed
    )
    if not train:
        raise DataError(
            f"no pair of {data} is left to train on: {too_long} of {len(pairs)} are longer than "
            f"{config.max_length} tokens; raise train.reward.max_length or lower train.reward.held_out"
        )
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, memory_advice(_KNOBS):
        trainer = _trainer(network, tokenizer, train, config, Path(scratch), seed)
        trainer.add_callback(reporting("reward", progress, losses))
        without_printer(trainer).train()
        trained = time.perf_counter()
        figures = _evaluate(network, held_out, tokenizer.pad_token_id, seed)
        network.config.mean, network.config.std = _normalisation(network, train, tokenizer.pad_token_id)
    summary = {
        "pairs": len(train),
        "pairs_held_out": len(held_out),
        "pairs_too_long": too_long,
        **loss_figures(losses),
        "held_out": figures,
        "normalisation": {"mean": network.config.mean, "std": network.config.std},
        "seconds": round(time.perf_counter() - start, 3),
        "seconds_training": round(trained - start, 3),
    }
    publish(out, save_into(network, tokenizer, losses), made_by=made_by, summary=summary, base=model)
    return summary


def _network(model: str, tokenizer: Any, seed: int) -> Any:
    """A sequence classifier with one output, its new head drawn from N(0, 1/sqrt(d + 1)) (2009.01325)."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

    set_seed(seed)
    settings = AutoConfig.from_pretrained(model, trust_remote_code=False)
    was_reward = any("SequenceClassification" in name for name in settings.architectures or [])
    network = load_model(
        AutoModelForSequenceClassification, model, new=("score.weight",), num_labels=1, dtype=torch.float32
    )
    network.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    head = score_head(network, model)
    if not was_reward:
        torch.nn.init.normal_(head.weight, std=1.0 / math.sqrt(head.in_features + 1))
    return network


def _token_pairs(
    pairs: Sequence[Pair], tokenizer: Any, ends: frozenset[int], config: RewardConfig, seed: int
) -> tuple[list[TokenPair], list[TokenPair], int]:
    """Pairs to train on, pairs held out, and how many were too long. A prompt is on one side only."""
    held = _held_out_prompts(pairs, config.held_out, seed)
    train: list[TokenPair] = []
    held_out: list[TokenPair] = []
    too_long = 0
    for pair in pairs:
        start = prompt_ids(tokenizer, pair.prompt)
        sides = [
            start + answer_ids(tokenizer, pair.prompt, text, ends) for text in (pair.chosen, pair.rejected)
        ]
        if max(map(len, sides)) > config.max_length:
            too_long += 1
            continue
        side = held_out if _prompt_key(pair, seed) in held else train
        side.append(TokenPair(sides[0], sides[1], pair.chosen_prob))
    return train, held_out, too_long


def _prompt_key(pair: Pair, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{json.dumps(pair.prompt)}".encode()).hexdigest()


def _held_out_prompts(pairs: Sequence[Pair], share: float, seed: int) -> set[str]:
    keys = sorted({_prompt_key(pair, seed) for pair in pairs})
    return set(keys[: round(share * len(keys))])


def _trainer(
    network: Any, tokenizer: Any, pairs: Sequence[TokenPair], config: RewardConfig, scratch: Path, seed: int
) -> Any:
    from datasets import Dataset

    trainer_class, config_class, collator_class = _soft_label_classes()
    columns = {
        "chosen_ids": [pair.chosen for pair in pairs],
        "rejected_ids": [pair.rejected for pair in pairs],
        "chosen_prob": [pair.chosen_prob for pair in pairs],
        "length": [max(len(pair.chosen), len(pair.rejected)) for pair in pairs],
    }
    return trainer_class(
        model=network,
        args=config_class(**common_arguments(config, scratch, seed), max_length=None),
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
        data_collator=collator_class(pad_token_id=tokenizer.pad_token_id),
    )


def _soft_label_classes() -> tuple[Any, Any, Any]:
    """TRL's trainer and collator, changed as far as soft labels need and no further."""
    import torch

    from constitute.train.losses import soft_label_loss

    trainer_class, config_class, collator_class = _compat.reward_trainer()

    class SoftLabelCollator(collator_class):  # type: ignore[misc, valid-type]
        """Adds P(chosen) to the padded batch."""

        def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
            """Batch of chosen rows, then rejected rows, with `chosen_prob` (B,)."""
            batch: dict[str, Any] = super().torch_call(examples)
            batch["chosen_prob"] = torch.tensor([row["chosen_prob"] for row in examples], dtype=torch.float)
            return batch

    class SoftLabelTrainer(trainer_class):  # type: ignore[misc, valid-type]
        """RewardTrainer with cross-entropy against P(chosen)."""

        def _set_signature_columns_if_needed(self) -> None:
            self._signature_columns = ["chosen_ids", "rejected_ids", "chosen_prob", "length"]

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """Mean soft-label loss of the batch; replaces the hard Bradley-Terry loss."""
            chosen_prob_B = inputs["chosen_prob"]
            outputs = model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            )
            chosen_B, rejected_B = outputs.logits.squeeze(-1).float().chunk(2)
            loss = soft_label_loss(chosen_B, rejected_B, chosen_prob_B).mean()
            return (loss, outputs) if return_outputs else loss

    return SoftLabelTrainer, config_class, SoftLabelCollator


def _raw_scores(network: Any, sequences: list[list[int]], pad_id: int) -> list[float]:
    scorer = RewardModel(network.eval(), "the model just trained", network.device)
    scorer.mean, scorer.std = 0.0, 1.0
    return scorer.scores(sequences, pad_id, _EVALUATION_TOKENS)


def _evaluate(network: Any, pairs: Sequence[TokenPair], pad_id: int, seed: int) -> dict[str, Any]:
    if not pairs:
        return {}
    scores = _raw_scores(network, [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], pad_id)
    margins = [a - b for a, b in zip(scores[: len(pairs)], scores[len(pairs) :], strict=True)]
    return dict(preference_metrics(margins, [pair.chosen_prob for pair in pairs], seed))


def _normalisation(network: Any, pairs: Sequence[TokenPair], pad_id: int) -> tuple[float, float]:
    """Mean and standard deviation of the raw score over answers of both sides (arXiv 1909.08593, 2.1)."""
    sequences = [side for pair in pairs for side in (pair.chosen, pair.rejected)][:_REFERENCE_SAMPLES]
    scores = _raw_scores(network, sequences, pad_id)
    centre = mean(scores)
    spread = math.sqrt(mean([(score - centre) ** 2 for score in scores]))
    if not (math.isfinite(spread) and spread > 0):
        raise GateFailed(
            f"the reward model gives every answer the score {centre:.3g}; lower train.reward.learning_rate "
            "or check that the labels differ"
        )
    return centre, spread
