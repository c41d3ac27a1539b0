"""Losses of `train dpo` by name: what a pair of answers costs, from the log-probabilities of both.

`kto` alone is of single answers; `train.kto` holds it.

A loss is that of a first answer which is better than a second. A soft label P(chosen) mixes both readings,
P(chosen) L(chosen, rejected) + (1 - P(chosen)) L(rejected, chosen): the expected loss over the judge's doubt,
which for DPO is its cross-entropy. Shapes: B pairs; log-probabilities are in nats, summed over the tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from constitute.config.train import DPOConfig
from constitute.errors import UsageError
from constitute.registry import registered


@dataclass(frozen=True)
class Answers:
    """One answer of each pair: log P under the policy and the reference (B,), and its tokens (B,).

    `reference_B` is 0 for a loss that has no reference.
    """

    logprobs_B: Tensor
    reference_B: Tensor
    lengths_B: Tensor

    @property
    def log_ratio_B(self) -> Tensor:
        """log pi - log pi_ref."""
        return self.logprobs_B - self.reference_B

    @property
    def mean_B(self) -> Tensor:
        """Log-probability per token."""
        return self.logprobs_B / self.lengths_B


# (better, worse, settings) -> loss of each pair (B,).
Loss = Callable[[Answers, Answers, DPOConfig], Tensor]


@dataclass(frozen=True)
class PreferenceLoss:
    """A loss, and whether it measures from a reference."""

    loss: Loss
    needs_reference: bool


def sigmoid(better: Answers, worse: Answers, config: DPOConfig) -> Tensor:
    """-log sigmoid(beta (h_better - h_worse)), h the log-ratio (DPO, arXiv 2305.18290, equation 7)."""
    return -logsigmoid(config.beta * (better.log_ratio_B - worse.log_ratio_B))


def ipo(better: Answers, worse: Answers, config: DPOConfig) -> Tensor:
    """(h_better - h_worse - 1 / (2 beta))^2: a gap to reach and not to pass (IPO, arXiv 2310.12036)."""
    return (better.log_ratio_B - worse.log_ratio_B - 1.0 / (2.0 * config.beta)) ** 2


def simpo(better: Answers, worse: Answers, config: DPOConfig) -> Tensor:
    """-log sigmoid(beta (mean_better - mean_worse) - gap): no reference (SimPO, arXiv 2405.14734)."""
    return -logsigmoid(config.beta * (better.mean_B - worse.mean_B) - config.gap)


def orpo(better: Answers, worse: Answers, config: DPOConfig) -> Tensor:
    """The better answer's mean NLL, and beta times -log sigmoid of the log odds ratio.

    ORPO (arXiv 2403.07691, equations 6 and 7); the odds are those of a token's geometric mean probability.
    """
    gap_B = _log_odds(better.mean_B) - _log_odds(worse.mean_B)
    return -better.mean_B - config.beta * logsigmoid(gap_B)


def rrhf(better: Answers, worse: Answers, config: DPOConfig) -> Tensor:
    """max(0, mean_worse - mean_better) and the better answer's mean NLL (RRHF, arXiv 2304.05302)."""
    return (worse.mean_B - better.mean_B).clamp(min=0.0) - better.mean_B


def _log_odds(mean_B: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(mean); p = 1, which rounding may reach, is as far as the dtype goes."""
    least = torch.finfo(mean_B.dtype).eps
    return mean_B - torch.log(-torch.expm1(mean_B.clamp(max=-least)))


LOSSES: dict[str, PreferenceLoss] = {
    "sigmoid": PreferenceLoss(sigmoid, needs_reference=True),
    "ipo": PreferenceLoss(ipo, needs_reference=True),
    "simpo": PreferenceLoss(simpo, needs_reference=False),
    "orpo": PreferenceLoss(orpo, needs_reference=False),
    "rrhf": PreferenceLoss(rrhf, needs_reference=False),
}


# Losses of single answers, each with a trainer of its own.
UNPAIRED = {"kto": "constitute.train.kto.train:train_kto"}


def check_loss(config: DPOConfig) -> None:
    """Raise `UsageError` for a `train.dpo.loss` that is not known, or has settings that do not fit it."""
    registered(dict.fromkeys([*LOSSES, *UNPAIRED], True), config.loss, "loss (train.dpo.loss)")
    if config.gap and config.loss != "simpo":
        raise UsageError(
            f"train.dpo.gap is {config.gap:g} and loss={config.loss} has none; set loss=simpo or gap=0"
        )


def preference_loss(config: DPOConfig) -> PreferenceLoss:
    """The loss of pairs that `train.dpo.loss` names; raises `UsageError` as `check_loss` does."""
    check_loss(config)
    return LOSSES[config.loss]


def soft(loss: Loss, chosen: Answers, rejected: Answers, chosen_prob_B: Tensor, config: DPOConfig) -> Tensor:
    """The loss of each pair under its label P(chosen), (B,)."""
    forward_B, back_B = loss(chosen, rejected, config), loss(rejected, chosen, config)
    return chosen_prob_B * forward_B + (1.0 - chosen_prob_B) * back_B
