"""The algorithms of `train ppo` by name; a further one is a module with an `Algorithm`, and an entry here."""

from __future__ import annotations

from torch import Tensor

from constitute.config.ppo import PPOConfig
from constitute.errors import UsageError
from constitute.registry import registered
from constitute.train.common import losses
from constitute.train.ppo.experience import Algorithm, ScoredBatch


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


def minus_others(returns_B: Tensor, samples: int) -> Tensor:
    """Each return minus the mean of the other `samples - 1` of its prompt; groups are adjacent rows."""
    assert samples >= 2 and len(returns_B) % samples == 0, "leave-one-out needs whole groups of two or more"
    groups_PK = returns_B.view(-1, samples)
    others_PK = (groups_PK.sum(dim=1, keepdim=True) - groups_PK) / (samples - 1)
    return (groups_PK - others_PK).flatten()


ALGORITHMS: dict[str, Algorithm] = {
    "gae": Algorithm(generalised, needs_critic=True),
    "rloo": Algorithm(leave_one_out, needs_critic=False, needs_group=True),
}


def find_algorithm(config: PPOConfig) -> Algorithm:
    """The algorithm that `config` names. Raises `UsageError` for a name or a batch that does not fit."""
    name = config.advantage
    algorithm: Algorithm = registered(ALGORITHMS, name, "algorithm (train.ppo.advantage)")
    if algorithm.needs_group and config.samples_per_prompt < 2:
        raise UsageError(
            f"train.ppo: advantage={name} compares samples of one prompt; "
            "set train.ppo.samples_per_prompt to 2 or more"
        )
    return algorithm
