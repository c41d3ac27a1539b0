"""Settings of the reward model; each default names where it comes from."""

from __future__ import annotations

from pydantic import Field

from constitute.config.sft import Schedule
from constitute.types import Record


class RewardConfig(Record):
    """Reward model on soft preference labels (arXiv 2309.00267, section 2.2)."""

    epochs: float = Field(default=1.0, gt=0)
    """One pass: reward models overfit in the second (arXiv 2203.02155, appendix C.2)."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """arXiv 2203.02155, appendix C.2 (9e-6)."""
    schedule: Schedule = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    batch_size: int = Field(default=64, ge=1)
    """Pairs per update (arXiv 2009.01325, appendix B)."""
    device_batch_size: int = Field(default=8, ge=1)
    """Pairs per forward pass: memory only."""
    max_length: int = Field(default=2048, ge=8)
    """Tokens of prompt and answer; a pair with a longer side is left out and counted."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts kept for the evaluation."""
    gradient_checkpointing: bool = False
