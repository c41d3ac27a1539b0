"""What is measured of a trained reward model: its scores' mean and deviation, and its standard errors."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from constitute.config.train import RewardConfig
from constitute.errors import GateFailed
from constitute.train.common import sharding
from constitute.train.common.batching import Batching
from constitute.train.reward.model import LOWER_BOUND, Normalisation, last_states
from constitute.train.reward.pairs import TokenPair, sides_of
from constitute.train.reward.uncertainty import Uncertainty, measure

# Enough to know a mean and a standard deviation to about 2 %.
_REFERENCE_SAMPLES = 2048


def reference_answers(pairs: Sequence[TokenPair], seed: int) -> list[list[int]]:
    """The answers of both sides, or as many of them as are enough, by which scores are normalised."""
    sequences = sides_of(pairs)
    if len(sequences) > _REFERENCE_SAMPLES:
        sequences = random.Random(f"{seed}:reference").sample(sequences, _REFERENCE_SAMPLES)
    return sequences


def normalisation_of(raw_Nk: Tensor, config: RewardConfig) -> Normalisation:
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


def described(normal: Normalisation) -> dict[str, Any]:
    """The normalisation as a summary holds it."""
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


def uncertainty_of(
    network: Any, head: torch.nn.Linear, pairs: Sequence[TokenPair], batching: Batching
) -> Uncertainty:
    """What the pairs leave unknown, by the trunk as it now is."""
    device = head.weight.device
    chosen_ND, rejected_ND = last_states(network, device, sides_of(pairs), batching).chunk(2)
    weights_N = torch.tensor([pair.row.weight for pair in pairs])
    return measure(chosen_ND, rejected_ND, sharding.whole(head.weight.detach())[0].cpu(), weights_N)
