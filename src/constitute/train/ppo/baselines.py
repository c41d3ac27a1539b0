"""What is taken off a return: the mean of the other samples of its prompt."""

from __future__ import annotations

from torch import Tensor


def minus_others(returns_B: Tensor, samples: int) -> Tensor:
    """Each return minus the mean of the other `samples - 1` of its prompt; groups are adjacent rows."""
    assert samples >= 2 and len(returns_B) % samples == 0, "leave-one-out needs whole groups of two or more"
    groups_PK = returns_B.view(-1, samples)
    others_PK = (groups_PK.sum(dim=1, keepdim=True) - groups_PK) / (samples - 1)
    return (groups_PK - others_PK).flatten()
