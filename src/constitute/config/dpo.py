"""Settings of direct preference optimisation; each default names where it comes from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from constitute.config.sft import Schedule
from constitute.types import Record


class DPOConfig(Record):
    """Direct preference optimisation on soft labels (arXiv 2305.18290)."""

    beta: float = Field(default=0.1, gt=0)
    """Strength of the KL to the reference (arXiv 2305.18290, section 6: 0.1)."""
    labels: Literal["soft", "hard", "clamped"] = "soft"
    """`soft`: cross-entropy on P(chosen) (arXiv 2309.00267, section 2.2); `hard`: the likelier side is the
    better (arXiv 2305.18290, equation 7); `clamped`: P kept within [0.4, 0.6] (arXiv 2212.08073, 4.1)."""
    epochs: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=5e-7, gt=0)
    """Full fine-tuning (arXiv 2310.16944); with LoRA use about 1e-5."""
    schedule: Schedule = "linear"
    warmup: float = Field(default=0.1, ge=0, lt=1)
    batch_size: int = Field(default=64, ge=1)
    """Pairs per update (arXiv 2305.18290, appendix B)."""
    max_length: int = Field(default=2048, ge=8)
    """Tokens of prompt and answer; a pair with a longer side is left out and counted."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts kept for the evaluation."""
    lora_rank: int = Field(default=0, ge=0)
    """0 trains every weight; otherwise the rank of LoRA adapters on all linear layers (arXiv 2106.09685),
    merged when the model is saved."""
    microbatch_tokens: int = Field(default=8192, ge=1)
    """Tokens of both sides per forward pass: memory only, the gradient is the same."""
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(default=100, ge=1)
    """Updates between checkpoints."""
