"""Settings of the reward model; each default names where it comes from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from constitute.config.sft import Schedule
from constitute.types import Record


class RewardConfig(Record):
    """Reward model on preference labels (arXiv 2309.00267, section 2.2)."""

    labels: Literal["soft", "hard", "clamped"] = "soft"
    """`soft`: cross-entropy on P(chosen) (arXiv 2309.00267); `hard`: the likelier side is the better
    (arXiv 1706.03741); `clamped`: P kept within [0.4, 0.6] (arXiv 2212.08073, section 4.1)."""
    margin: bool = False
    """Subtract each row's `margin` from the difference of scores (arXiv 2307.09288, equation 2)."""
    heads: int = Field(default=1, ge=1, le=64)
    """Heads on one trunk, each trained on a bootstrap resample of its own (arXiv 1602.04938)."""
    combine: Literal["mean", "pessimistic", "min"] = "mean"
    """How several heads make one score: `mean`; `pessimistic`: mean - penalty * standard deviation;
    `min`: the lowest, the worst case (arXiv 2310.02743, section 3)."""
    penalty: float = Field(default=0.5, ge=0)
    """Weight of the standard deviation under `pessimistic`. Ours: arXiv 2310.02743 tunes it per task."""
    epochs: float = Field(default=1.0, gt=0)
    """One pass: reward models overfit in the second (arXiv 2203.02155, appendix C.2)."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """arXiv 2203.02155, appendix C.2 (9e-6)."""
    schedule: Schedule = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    batch_size: int = Field(default=64, ge=1)
    """Pairs per update (arXiv 2009.01325, appendix B)."""
    microbatch_tokens: int = Field(default=8192, ge=1)
    """Tokens of both sides per forward pass: memory only, the gradient is the same."""
    max_length: int = Field(default=2048, ge=8)
    """Tokens of prompt and answer; a pair with a longer side is left out and counted."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts kept for the evaluation."""
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(default=100, ge=1)
    """Updates between checkpoints."""
