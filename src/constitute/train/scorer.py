"""Reward models at work: score whole conversations, and start a critic from one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from constitute.errors import UsageError
from constitute.train.batching import collate, micro_batches
from constitute.train.models import hidden_states


def score_head(model: Any, name: str) -> nn.Linear:
    """The head of a reward model; raises `UsageError` where it is not a decoder's `score`."""
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Linear) or head.out_features != 1:
        raise UsageError(
            f"{name} is no reward model: it needs one output per sequence in a head named `score`; "
            "train one with `constitute train reward`"
        )
    return head


class RewardModel:
    """A frozen sequence classifier that scores whole conversations, normalised as it was saved."""

    def __init__(self, model: Any, name: str, device: torch.device) -> None:
        self.model = model.requires_grad_(False).to(device)
        self.head = score_head(model, name)
        self.mean, self.std = normalisation(model.config)
        self.device = device

    @torch.no_grad()
    def scores(self, sequences: Sequence[Sequence[int]], pad_id: int, token_budget: int) -> list[float]:
        """(r - mean) / std at the last token of each sequence."""
        scores = [0.0] * len(sequences)
        for rows in micro_batches([len(sequence) for sequence in sequences], token_budget):
            chosen = [sequences[row] for row in rows]
            batch = collate(chosen, [len(sequence) for sequence in chosen], pad_id, self.device)
            raw_B = self.head(hidden_states(self.model.base_model, batch)[batch.last_B]).squeeze(-1).float()
            for row, value in zip(rows, raw_B.tolist(), strict=True):
                scores[row] = (value - self.mean) / self.std
        return scores


def normalisation(config: Any) -> tuple[float, float]:
    """Mean and standard deviation of a reward model's raw scores, as its configuration keeps them."""
    mean, std = getattr(config, "mean", None), getattr(config, "std", None)
    return (float(mean), float(std)) if mean is not None and std else (0.0, 1.0)


def value_head_of(reward: Any, name: str) -> nn.Linear:
    """A value head that starts as the reward model's normalised score."""
    head = score_head(reward, name)
    mean, std = normalisation(reward.config)
    value = nn.Linear(head.in_features, 1)
    with torch.no_grad():
        value.weight.copy_(head.weight.float() / std)
        value.bias.fill_(-mean / std)
        if head.bias is not None:
            value.bias.add_(head.bias.float() / std)
    return value
