"""f-DPG: fit the policy to the target p(x) = ref(x) exp(reward / beta) / Z (arXiv 2302.08215).

The gradient of D_f(pi || p) is the mean over samples of f'(pi / p) grad log pi, a policy gradient whose
reward is -f'(pi / p). All divergences have the same optimum, p, which is PPO's at the same coefficient;
they differ on the way there, and where the policy cannot reach p.
Deviates from the paper in its estimate of Z, which is that of the prompt's samples in this batch alone, not a
moving average, and in its baseline, which is the mean of the prompt's other samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from constitute.train.ppo.baselines import minus_others
from constitute.train.ppo.experience import Algorithm, ScoredBatch


def forward_kl(log_weight: Tensor) -> Tensor:
    """KL(p || pi): f(t) = -log t, the weight p / pi itself (arXiv 2012.11635)."""
    return log_weight.exp()


def reverse_kl(log_weight: Tensor) -> Tensor:
    """KL(pi || p): f(t) = t log t; what RL with a KL penalty maximises, over beta."""
    return log_weight


def jensen_shannon(log_weight: Tensor) -> Tensor:
    """f(t) = t log t - (t + 1) log((t + 1) / 2): no less than -log 2, and like the log-weight above."""
    return softplus(log_weight) - math.log(2.0)


def total_variation(log_weight: Tensor) -> Tensor:
    """f(t) = |t - 1| / 2: whether the target has more, and no matter how much."""
    return 0.5 * log_weight.sign()


# -f'(pi / p) as a function of log(p / pi), up to a constant, which the baseline takes off.
DIVERGENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "js": jensen_shannon,
    "tv": total_variation,
}


def log_weights(batch: ScoredBatch) -> Tensor:
    """log(p / pi) of each response (P, K), with Z from the K responses to its prompt.

    Z is the mean of ref exp(score / beta) / pi, so the weights p / pi have mean 1 over a prompt.
    """
    reference_BT = batch.ref_logprobs_BT
    assert reference_BT is not None, "the target is made from the reference"
    log_ratio_B = ((batch.logprobs_BT - reference_BT) * batch.mask_BT).sum(dim=1)
    raw_PK = (batch.scores_B / batch.kl_coef - log_ratio_B).view(-1, batch.group_size)
    return raw_PK - torch.logsumexp(raw_PK, dim=1, keepdim=True) + math.log(batch.group_size)


def pseudo_rewards(batch: ScoredBatch) -> tuple[Tensor, None]:
    """-f'(pi / p) of each response minus the mean of the prompt's others, on each of its tokens."""
    pseudo_PK = DIVERGENCES[batch.config.divergence](log_weights(batch))
    return minus_others(pseudo_PK.flatten(), batch.group_size)[:, None] * batch.mask_BT, None


F_DPG = Algorithm(pseudo_rewards, needs_critic=False, needs_group=True, kl="own")
