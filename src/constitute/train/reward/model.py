"""The reward model in use: it scores whole conversations, and a critic can start from it.

Shapes: B conversations, D hidden width, k heads (1, or an ensemble on one trunk).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from constitute.engines.tokenizer import load_tokenizer
from constitute.errors import UsageError
from constitute.train.common.batching import Batching, TokenBatch, collate, micro_batches
from constitute.train.common.models import hidden_states, load_model
from constitute.train.reward.uncertainty import Uncertainty, load_uncertainty

# How a score is made from one head and its standard error.
LOWER_BOUND = "lower_bound"


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each head's raw score, and how the heads make one score."""

    means: tuple[float, ...] = (0.0,)
    stds: tuple[float, ...] = (1.0,)
    combine: str = "mean"
    penalty: float = 0.0

    def write(self, config: Any) -> None:
        """Put it into a model's configuration.

        One head: the numbers `mean` and `std`, which OpenRLHF reads. Several: lists under names of our own,
        for a list in `mean` would break it.
        """
        names = ("mean", "std", "score_means", "score_stds", "score_combine", "score_penalty")
        for name in names:
            if hasattr(config, name):
                delattr(config, name)
        if len(self.means) == 1:
            config.mean, config.std = self.means[0], self.stds[0]
            if self.combine == LOWER_BOUND:
                config.score_combine, config.score_penalty = self.combine, self.penalty
            return
        config.score_means, config.score_stds = list(self.means), list(self.stds)
        config.score_combine, config.score_penalty = self.combine, self.penalty


def normalisation(config: Any) -> Normalisation:
    """What `Normalisation.write` wrote; a model without it is taken as it scores."""
    means = getattr(config, "score_means", None)
    if means:
        return Normalisation(
            tuple(means), tuple(config.score_stds), config.score_combine, config.score_penalty
        )
    mean, std = getattr(config, "mean", None), getattr(config, "std", None)
    bound = (LOWER_BOUND, config.score_penalty) if getattr(config, "score_combine", "") == LOWER_BOUND else ()
    return (
        Normalisation((float(mean),), (float(std),), *bound) if mean is not None and std else Normalisation()
    )


def combined(raw_Bk: Tensor, normal: Normalisation, errors_B: Tensor | None = None) -> Tensor:
    """One score (B,) from the heads' raw scores, each head first brought to mean 0 and deviation 1.

    `mean`; `min`, the worst case; or `pessimistic`, mean - penalty * std over the heads (1/k under the
    root). arXiv 2310.02743, section 3, whose variance is a deviation here, so that the penalty has the
    unit of the score. `lower_bound` is one head's score - penalty * its standard error, `errors_B` raw.
    """
    scores_Bk = (raw_Bk - raw_Bk.new_tensor(normal.means)) / raw_Bk.new_tensor(normal.stds)
    if normal.combine == "min":
        return scores_Bk.amin(dim=1)
    if normal.combine == LOWER_BOUND:
        assert errors_B is not None, "a lower bound needs standard errors"
        return scores_Bk[:, 0] - normal.penalty * errors_B / normal.stds[0]
    mean_B = scores_Bk.mean(dim=1)
    if normal.combine == "pessimistic":
        return mean_B - normal.penalty * scores_Bk.std(dim=1, correction=0)
    return mean_B


def score_head(model: Any, name: str, heads: int | None = None) -> nn.Linear:
    """The head of a reward model, with `heads` outputs or as many as its configuration normalises.

    Raises `UsageError` where it is not a decoder's `score`.
    """
    head = getattr(model, "score", None)
    wanted = heads or len(normalisation(model.config).means)
    if not isinstance(head, nn.Linear) or head.out_features != wanted:
        outputs = "one output" if wanted == 1 else f"{wanted} outputs"
        raise UsageError(
            f"{name} is no reward model: it needs {outputs} per sequence in a head named `score`; "
            "train one with `constitute train reward`"
        )
    return head


def head_scores(model: Any, head: nn.Linear, batch: TokenBatch) -> Tensor:
    """Raw scores (B, k) in fp32, read at the last token of each sequence and nowhere else."""
    return _read_out(head, hidden_states(model.base_model, batch)[batch.last_B])


def _read_out(head: nn.Linear, last_BD: Tensor) -> Tensor:
    # A score in bf16 has three digits, fewer than two good answers differ by.
    with torch.autocast(last_BD.device.type, enabled=False):
        if head.weight.dtype == torch.float32:
            # Called, for a sharded head is whole only within its own call.
            scores_Bk: Tensor = head(last_BD.float())
            return scores_Bk
        bias = None if head.bias is None else head.bias.float()
        return nn.functional.linear(last_BD.float(), head.weight.float(), bias)


@torch.no_grad()
def raw_scores(model: Any, head: nn.Linear, sequences: Sequence[Sequence[int]], batching: Batching) -> Tensor:
    """Raw scores (N, k) of whole conversations, on the CPU in the order given."""
    scores_Nk = torch.zeros(len(sequences), head.out_features)
    for rows in micro_batches([len(sequence) for sequence in sequences], batching.token_budget):
        batch = whole_batch([sequences[row] for row in rows], batching.pad_id, head.weight.device)
        scores_Nk[rows] = head_scores(model, head, batch).cpu()
    return scores_Nk


@torch.no_grad()
def last_states(
    model: Any, device: torch.device, sequences: Sequence[Sequence[int]], batching: Batching
) -> Tensor:
    """Last hidden states (N, D) of whole conversations, which the head reads; fp32, on the CPU, in order."""
    states: dict[int, Tensor] = {}
    for rows in micro_batches([len(sequence) for sequence in sequences], batching.token_budget):
        batch = whole_batch([sequences[row] for row in rows], batching.pad_id, device)
        last_BD = hidden_states(model.base_model, batch)[batch.last_B].float().cpu()
        states |= zip(rows, last_BD, strict=True)
    return torch.stack([states[row] for row in range(len(sequences))])


def whole_batch(sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> TokenBatch:
    """Sequences padded on the right, of which only the last token is asked for."""
    return collate(sequences, [len(sequence) for sequence in sequences], pad_id, device)


class RewardModel:
    """A frozen sequence classifier that scores whole conversations, normalised as it was saved."""

    def __init__(
        self, model: Any, name: str, device: torch.device, uncertainty: Uncertainty | None = None
    ) -> None:
        self.model = model.requires_grad_(False).to(device)
        self.head = score_head(model, name)
        self.normal = normalisation(model.config)
        self.device = device
        if uncertainty is None and self.normal.combine == LOWER_BOUND:
            uncertainty = load_uncertainty(name)
        self.uncertainty = uncertainty

    def scores(self, sequences: Sequence[Sequence[int]], batching: Batching) -> list[float]:
        """One normalised score a sequence; the heads of an ensemble are combined as it was configured."""
        if self.uncertainty is None:
            raw_Nk = raw_scores(self.model, self.head, sequences, batching)
            values: list[float] = combined(raw_Nk, self.normal).tolist()
            return values
        states_ND = last_states(self.model, self.device, sequences, batching)
        with torch.no_grad():
            raw_Nk = _read_out(self.head, states_ND.to(self.head.weight.device)).cpu()
        bounds: list[float] = combined(raw_Nk, self.normal, self.uncertainty.errors(states_ND)).tolist()
        return bounds


def open_reward_model(
    folder: str, tokenizer: Any, policy: str, dtype: torch.dtype, device: torch.device
) -> RewardModel:
    """The reward model in `folder`; `UsageError` where it reads other tokens than `policy` writes."""
    from transformers import AutoModelForSequenceClassification

    if load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise UsageError(
            f"the reward model {folder} has another tokenizer than {policy}; train it from the same model "
            f"family with `constitute train reward --model {policy}`"
        )
    return RewardModel(load_model(AutoModelForSequenceClassification, folder, dtype=dtype), folder, device)


def value_head_of(reward: Any, name: str) -> nn.Linear:
    """A value head that starts as the reward model's normalised score: for an ensemble, the heads' mean.

    A value is an expectation, so no pessimism enters; a linear head could not hold it either.
    """
    head = score_head(reward, name)
    normal = normalisation(reward.config)
    value = nn.Linear(head.in_features, 1)
    with torch.no_grad():
        weight_kD = head.weight.float()
        bias_k = torch.zeros(len(weight_kD)) if head.bias is None else head.bias.float()
        std_k = weight_kD.new_tensor(normal.stds)
        value.weight.copy_((weight_kD / std_k[:, None]).mean(dim=0, keepdim=True))
        mean_k = weight_kD.new_tensor(normal.means)
        value.bias.fill_(((bias_k.to(weight_kD) - mean_k) / std_k).mean().item())
    return value
