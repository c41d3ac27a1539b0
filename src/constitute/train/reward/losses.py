"""What a reward model is trained on: the losses of pairs, or of the rankings that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from constitute.config.train import RewardConfig
from constitute.train.common import sharding
from constitute.train.common.batching import micro_batches
from constitute.train.common.losses import soft_label_loss
from constitute.train.reward.kwise import ranking_losses, rankings_of
from constitute.train.reward.model import head_scores, whole_batch
from constitute.train.reward.pairs import TokenPair, bootstrap_counts, margin, sides_of, target

LossSum = Callable[[Sequence[int]], Tensor]


@dataclass(frozen=True)
class Examples:
    """What the loop takes: the token cost and the weight of each example, and the losses of rows of them.

    `figures` counts what they are.
    """

    lengths: list[int]
    weights: list[float]
    loss_sum: LossSum
    figures: dict[str, int]


def examples_of(
    network: Any,
    head: torch.nn.Linear,
    pairs: Sequence[TokenPair],
    config: RewardConfig,
    pad_id: int,
    seed: int,
) -> Examples:
    """The pairs as they are, or put together into rankings, as `train.reward.ranking` says."""
    if config.ranking == "pairs":
        losses = pair_losses(network, head, pairs, config, pad_id, seed)
        return Examples([pair.tokens for pair in pairs], [pair.row.weight for pair in pairs], losses, {})
    rankings = rankings_of(pairs, config.labels)
    score = scoring(network, head, config.microbatch_tokens, pad_id)
    losses = ranking_losses(score, rankings, config, head.weight.device, seed)
    alone = sum(len(one.sequences) == 2 for one in rankings)
    figures = {"rankings": len(rankings) - alone, "pairs_in_no_ranking": alone}
    return Examples([one.tokens for one in rankings], [one.weight for one in rankings], losses, figures)


def scoring(
    network: Any, head: torch.nn.Linear, microbatch_tokens: int, pad_id: int
) -> Callable[[Sequence[Sequence[int]]], Tensor]:
    """The function from sequences to raw scores (N, k) in their order, with its graph.

    They are scored in groups of like length, so that a short answer is not padded to its longer partner.
    """
    device = head.weight.device

    def scored(sequences: Sequence[Sequence[int]]) -> Tensor:
        groups = sharding.in_step(
            network, micro_batches([len(sequence) for sequence in sequences], microbatch_tokens)
        )
        parts = [
            head_scores(network, head, whole_batch([sequences[row] for row in group], pad_id, device))
            for group in groups
        ]
        places = torch.tensor([place for group in groups for place in group], dtype=torch.long, device=device)
        return torch.cat(parts)[places.argsort()]

    return scored


def pair_losses(
    network: Any,
    head: torch.nn.Linear,
    pairs: Sequence[TokenPair],
    config: RewardConfig,
    pad_id: int,
    seed: int,
) -> LossSum:
    """The function from rows of `pairs` to their summed, weighted loss, a mean over the heads.

    Both sides of all rows are scored together. With several heads each sees its own resample of the pairs.
    """
    device = head.weight.device
    target_N = torch.tensor([target(pair.row.chosen_prob, config.labels) for pair in pairs], device=device)
    margin_N = torch.tensor([margin(pair.row) if config.margin else 0.0 for pair in pairs], device=device)
    counts_Nk = torch.tensor(bootstrap_counts(len(pairs), config.heads, seed), device=device).T
    weight_Nk = counts_Nk * torch.tensor([[pair.row.weight] for pair in pairs], device=device) / config.heads
    scored = scoring(network, head, config.microbatch_tokens, pad_id)

    def loss_sum(rows: Sequence[int]) -> Tensor:
        index = list(rows)
        chosen_Bk, rejected_Bk = scored(sides_of([pairs[row] for row in rows])).chunk(2)
        loss_Bk = soft_label_loss(
            chosen_Bk - margin_N[index, None], rejected_Bk, target_N[index, None].expand_as(chosen_Bk)
        )
        return (loss_Bk * weight_Nk[index]).sum()

    return loss_sum
