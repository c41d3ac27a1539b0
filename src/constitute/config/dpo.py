"""Settings of direct preference optimisation; each default names where it comes from."""

from __future__ import annotations

from pydantic import Field

from constitute.config.sft import Schedule
from constitute.types import Record


class DPOConfig(Record):
    """Direct preference optimisation on soft labels (arXiv 2305.18290)."""

    beta: float = Field(default=0.1, gt=0)
    """Strength of the KL to the reference (arXiv 2305.18290, section 6: 0.1)."""
    epochs: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=5e-7, gt=0)
    schedule: Schedule = "linear"
    warmup: float = Field(default=0.1, ge=0, lt=1)
    batch_size: int = Field(default=64, ge=1)
    """Pairs per update (arXiv 2305.18290, appendix B)."""
    max_length: int = Field(default=2048, ge=8)
    """Tokens of prompt and answer; a pair with a longer side is left out and counted."""
    microbatch_tokens: int = Field(default=8192, ge=1)
    """Padded tokens per forward pass: memory only."""
    gradient_checkpointing: bool = False
