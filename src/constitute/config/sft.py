"""Settings of supervised fine-tuning; each default names where it comes from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from constitute.types import Record

Schedule = Literal["constant", "linear", "cosine"]


class SFTConfig(Record):
    """Supervised fine-tuning on the assistant's turns, with TRL's SFTTrainer."""

    epochs: float = Field(default=2.0, gt=0)
    """Alpaca and most open recipes: 2-3 passes over small sets; a third mostly memorises."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Full fine-tuning of 1-8B models (Alpaca); with LoRA use about 2e-4."""
    schedule: Schedule = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps spent warming up (Alpaca)."""
    batch_size: int = Field(default=32, ge=1)
    """Conversations per update."""
    device_batch_size: int = Field(default=8, ge=1)
    """Conversations per forward pass: memory only, the gradient is the same."""
    max_length: int = Field(default=2048, ge=8)
    """Tokens of a conversation; a longer one is left out and counted, never cut."""
    lora_rank: int = Field(default=0, ge=0)
    """0 trains every weight; otherwise the rank of LoRA adapters on all linear layers (arXiv 2106.09685)."""
    gradient_checkpointing: bool = False
    """Trades a third more compute for activation memory; wanted from about 3B parameters."""
    mix_data: str | None = None
    """Conversations mixed in, such as answers to helpful prompts: JSONL or Parquet as for `--data`."""
    mix_ratio: float = Field(default=0.27, gt=0, lt=1)
    """Share of the rows that come from `mix_data` (arXiv 2212.08073, section 3.2: 2 answers to each of
    135,296 helpful prompts beside 4 revisions of each of 182,831 others)."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Updates between checkpoints."""
