"""The algorithms of `train ppo` by name; a further one is a module with an `Algorithm`, and an entry here."""

from __future__ import annotations

import torch
from torch import Tensor

from constitute.config.ppo import PPOConfig
from constitute.errors import UsageError
from constitute.registry import registered
from constitute.train.common import losses
from constitute.train.ppo.baselines import minus_others
from constitute.train.ppo.experience import Algorithm, ScoredBatch
from constitute.train.ppo.f_dpg import F_DPG
from constitute.train.ppo.online_dpo import ONLINE_DPO

# Added to a deviation, so that scores which differ by rounding alone make no advantage.
_LEAST_DEVIATION = 1e-4


def generalised(batch: ScoredBatch) -> tuple[Tensor, Tensor]:
    """Whitened generalised advantages, and returns for the critic (arXiv 1506.02438)."""
    config, mask_BT = batch.config, batch.mask_BT
    advantages_BT = losses.gae(batch.rewards_BT, batch.values_BT, mask_BT, config.gamma, config.lam)
    return losses.whiten(advantages_BT, mask_BT), (advantages_BT + batch.values_BT) * mask_BT


def leave_one_out(batch: ScoredBatch) -> tuple[Tensor, None]:
    """Each response's return against the mean of the other samples of its prompt, on each of its tokens.

    Unwhitened; the KL penalty is part of the return (arXiv 2402.14740, section 3.2; Kool et al. 2019).
    """
    returns_B = batch.rewards_BT.sum(dim=1)
    return minus_others(returns_B, batch.group_size)[:, None] * batch.mask_BT, None


def group_relative(batch: ScoredBatch) -> tuple[Tensor, None]:
    """Each response's return against the mean of its prompt's, over their deviation (arXiv 2402.03300).

    Without `group_std` the mean alone is taken off (arXiv 2503.20783, section 3.1). A prompt whose responses
    are all worth the same gives no advantage.
    """
    returns_B = batch.rewards_BT.sum(dim=1)
    centred_PK = _centred(returns_B, batch.group_size)
    if batch.config.group_std:
        deviation_P1 = (centred_PK**2).sum(dim=1, keepdim=True).div(batch.group_size - 1).sqrt()
        centred_PK = centred_PK / (deviation_P1 + _LEAST_DEVIATION)
    return centred_PK.flatten()[:, None] * batch.mask_BT, None


def whitened_returns(batch: ScoredBatch) -> tuple[Tensor, None]:
    """The discounted reward from each token on, whitened over the batch: no baseline but its mean.

    REINFORCE++ (arXiv 2501.03262, equations 8 and 9). Discounts by `gamma`.
    """
    nothing_BT = torch.zeros_like(batch.rewards_BT)
    returns_BT = losses.gae(batch.rewards_BT, nothing_BT, batch.mask_BT, batch.config.gamma, lam=1.0)
    return losses.whiten(returns_BT, batch.mask_BT), None


def whitened_against_prompt(batch: ScoredBatch) -> tuple[Tensor, None]:
    """Each response's return minus the mean of its prompt's, then whitened over the batch's tokens.

    REINFORCE++ with a baseline (arXiv 2501.03262, equation 10).
    """
    centred_PK = _centred(batch.rewards_BT.sum(dim=1), batch.group_size)
    return losses.whiten(centred_PK.flatten()[:, None] * batch.mask_BT, batch.mask_BT), None


def _centred(returns_B: Tensor, samples: int) -> Tensor:
    groups_PK = returns_B.view(-1, samples)
    return groups_PK - groups_PK.mean(dim=1, keepdim=True)


ALGORITHMS: dict[str, Algorithm] = {
    "gae": Algorithm(generalised, needs_critic=True),
    "rloo": Algorithm(leave_one_out, needs_critic=False, needs_logprobs=False, needs_group=True),
    "grpo": Algorithm(group_relative, needs_critic=False, needs_logprobs=False, needs_group=True, kl="loss"),
    "reinforce++": Algorithm(whitened_returns, needs_critic=False, needs_logprobs=False),
    "reinforce++baseline": Algorithm(
        whitened_against_prompt, needs_critic=False, needs_logprobs=False, needs_group=True, kl="loss"
    ),
    "online_dpo": ONLINE_DPO,
    "f_dpg": F_DPG,
}


def find_algorithm(config: PPOConfig) -> Algorithm:
    """The algorithm that `config` names. Raises `UsageError` for a name or a batch that does not fit."""
    name = config.advantage
    algorithm: Algorithm = registered(ALGORITHMS, name, f"algorithm (train.{config.section}.advantage)")
    if algorithm.needs_group and config.samples_per_prompt < 2:
        raise UsageError(
            f"train.{config.section}: advantage={name} compares samples of one prompt; "
            f"set train.{config.section}.samples_per_prompt to 2 or more"
        )
    _check_fit(algorithm, config)
    return algorithm


def _check_fit(algorithm: Algorithm, config: PPOConfig) -> None:
    """Raise `UsageError` for a setting that the algorithm would not heed."""
    at, name = f"train.{config.section}", config.advantage
    own = algorithm.kl == "own"
    for wrong, problem in (
        (
            own and not config.kl_coef,
            f"advantage={name} measures from the reference in units of kl_coef, which is 0; set {at}.kl_coef "
            "above 0",
        ),
        (
            own and config.kl_in != "auto",
            f"advantage={name} has the KL in its own target, and {at}.kl_in={config.kl_in} would add it "
            f"again; set {at}.kl_in=auto",
        ),
        (
            algorithm.group_loss is not None and (config.mask_overlong or config.weight_cap is not None),
            f"advantage={name} has one loss for several responses, which mask_overlong, importance_cap and "
            f"off_by cannot weigh; set {at}.mask_overlong=false and {at}.off_by=0, and remove "
            f"{at}.importance_cap",
        ),
    ):
        if wrong:
            raise UsageError(f"{at}: {problem}")
