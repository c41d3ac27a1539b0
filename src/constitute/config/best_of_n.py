"""Settings of best-of-n sampling; each default names where it comes from."""

from __future__ import annotations

from pydantic import Field

from constitute.types import Record


class BestOfNConfig(Record):
    """Best-of-n: sample n completions of a prompt and keep the one with the greatest reward."""

    n: int = Field(default=16, ge=1, le=1024)
    """Completions of each prompt (arXiv 2305.14387: 16)."""
    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Below 1 the KL bound is from the model so sampled, not from the model itself."""
    batch_size: int = Field(default=1024, ge=1)
    """Completions sampled and scored between two writes: what a killed run may have to sample again."""
    microbatch_tokens: int = Field(default=8192, ge=1)
    """Padded tokens per forward pass of a reward model: memory only."""
