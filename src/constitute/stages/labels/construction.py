"""Ask nobody: of two answers made by `contrast`, the one that was asked to follow the principle is better.

RLCD (arXiv 2307.12950, section 3): the label is how the pair was made, right or wrong.
"""

from __future__ import annotations

from constitute.config import LabelConfig
from constitute.errors import Abstain, RowError
from constitute.stages.base import Sample
from constitute.stages.labels.base import LabelMethod
from constitute.types import Comparison, Principle, PrincipleVote


async def construction(
    row: Comparison, principle: Principle, weight: float, sample: Sample, cfg: LabelConfig
) -> PrincipleVote:
    """P(A) is 1 or 0. Raises `RowError` for a pair of no contrast, `Abstain` under another principle."""
    if row.contrast is None:
        raise RowError("the pair was not made by the stage contrast, so it has no label by construction")
    if row.contrast.principle_id != principle.id:
        raise Abstain(f"the pair was made under {row.contrast.principle_id}, not under {principle.id}")
    return PrincipleVote(
        principle_id=principle.id,
        weight=weight,
        p_ab=1.0 if row.contrast.follows else 0.0,
        p_ba=None,
        mass_ab=None,
        mass_ba=None,
    )


METHOD = LabelMethod(vote=construction, ordered=False, alone=True, form="text")
