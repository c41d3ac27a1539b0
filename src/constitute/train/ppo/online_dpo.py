"""Online DPO: the policy's own samples, compared by the reward, under DPO's loss (arXiv 2402.04792).

Deviates from the paper, whose labels are hard, in that by default the label of a pair is as soft as the
reward's difference says: hard labels have no optimum but a certain answer, soft ones have PPO's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from constitute.config.ppo import PPOConfig
from constitute.train.ppo.experience import Algorithm, Groups, ScoredBatch


def best_against_worst(groups: Groups, config: PPOConfig) -> Tensor:
    """DPO's loss (arXiv 2305.18290, equation 7) of each prompt's best and worst response, (P,).

    P(best) is sigmoid of the difference of their scores (Bradley and Terry 1952), or 1 for hard labels,
    under which equal scores say nothing. The reward at the optimum is beta times the log-ratio, as in PPO.
    """
    scores_PK = groups.scores_PK
    # The first of the best and the last of the worst, so that equal scores are of two responses, too.
    best_P1 = scores_PK.argmax(dim=1, keepdim=True)
    worst_P1 = scores_PK.shape[1] - 1 - scores_PK.flip(1).argmin(dim=1, keepdim=True)

    def between(values_PK: Tensor) -> Tensor:
        return (values_PK.gather(1, best_P1) - values_PK.gather(1, worst_P1)).squeeze(1)

    margin_P = groups.beta * between(groups.logprobs_PK - groups.reference_PK)
    apart_P = between(scores_PK)
    hard = config.pair_labels == "hard"
    label_P = torch.ones_like(apart_P) if hard else apart_P.sigmoid()
    loss_P = binary_cross_entropy_with_logits(margin_P, label_P.to(margin_P.dtype), reduction="none")
    return loss_P * (apart_P > 0) if hard else loss_P


def no_advantages(batch: ScoredBatch) -> tuple[Tensor, None]:
    """None: the loss is of pairs."""
    return torch.zeros_like(batch.rewards_BT), None


ONLINE_DPO = Algorithm(
    no_advantages,
    needs_critic=False,
    needs_logprobs=False,
    needs_group=True,
    kl="own",
    group_loss=best_against_worst,
)
