"""How a batch of rewards becomes advantages: a table of estimators by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from constitute.config.ppo import PPOConfig
from constitute.train.common import losses
from constitute.train.common.rollout import Experience, Rollouts, engine_logprobs
from constitute.train.ppo.rloo import rloo

# (rewards_BT, values_BT, mask_BT, config) -> (advantages_BT, returns_BT). Every tensor holds the whole batch,
# whichever process works on which row: whitening over a part of it would be another algorithm.
Estimator = Callable[[Tensor, Tensor, Tensor, PPOConfig], tuple[Tensor, Tensor]]


def _gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, config: PPOConfig) -> tuple[Tensor, Tensor]:
    """Whitened generalised advantages, and returns for the critic (arXiv 1506.02438)."""
    advantages_BT = losses.gae(rewards_BT, values_BT, mask_BT, config.gamma, config.lam)
    return losses.whiten(advantages_BT, mask_BT), (advantages_BT + values_BT) * mask_BT


def _rloo(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, config: PPOConfig) -> tuple[Tensor, Tensor]:
    """Leave-one-out advantages, unwhitened; there is no critic to give returns to."""
    return rloo(rewards_BT, mask_BT, config.samples_per_prompt), values_BT


ESTIMATORS: dict[str, Estimator] = {"gae": _gae, "rloo": _rloo}


def experience(
    rollouts: Rollouts,
    scores: Sequence[float],
    logprobs_BT: Tensor,
    ref_logprobs_BT: Tensor,
    values_BT: Tensor,
    kl_coef: float,
    config: PPOConfig,
) -> Experience:
    """Put the scores and the KL penalty on the tokens and estimate advantages and returns from them."""
    mask_BT = rollouts.mask_BT
    score_B = torch.tensor(scores, device=mask_BT.device)
    rewards_BT = losses.token_rewards(score_B, logprobs_BT, ref_logprobs_BT, mask_BT, kl_coef)
    advantages_BT, returns_BT = ESTIMATORS[config.advantage](rewards_BT, values_BT, mask_BT, config)
    weights_BT = None
    if config.importance_cap is not None:
        weights_BT = losses.importance_weights(logprobs_BT, engine_logprobs(rollouts), config.importance_cap)
    return Experience(rollouts, logprobs_BT, values_BT, advantages_BT, returns_BT, weights_BT)
