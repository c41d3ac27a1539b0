"""REINFORCE with a leave-one-out baseline: the other samples of a prompt stand in for a critic.

After arXiv 2402.14740, section 3.2 (Kool et al. 2019). The KL penalty is part of each sample's return.
"""

from __future__ import annotations

from torch import Tensor


def leave_one_out(returns_B: Tensor, samples: int) -> Tensor:
    """Each return minus the mean of the other `samples - 1` of its prompt; groups are adjacent rows."""
    assert samples >= 2 and len(returns_B) % samples == 0, "leave-one-out needs whole groups of two or more"
    groups_PK = returns_B.view(-1, samples)
    others_PK = (groups_PK.sum(dim=1, keepdim=True) - groups_PK) / (samples - 1)
    return (groups_PK - others_PK).flatten()


def rloo(rewards_BT: Tensor, mask_BT: Tensor, samples: int) -> Tensor:
    """Advantage of every token of a response: its whole return against the other samples'."""
    return leave_one_out(rewards_BT.sum(dim=1), samples)[:, None] * mask_BT
