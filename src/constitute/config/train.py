"""Settings of the three trainers; each default names where it comes from."""

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


class PPOConfig(Record):
    """PPO with a critic, in the form of arXiv 1909.08593 and 2009.01325."""

    iterations: int = Field(default=200, ge=1)
    batch_size: int = Field(default=256, ge=1)
    """Rollouts per iteration (arXiv 2009.01325 and 2203.02155: 512; halved for one machine)."""
    epochs: int = Field(default=4, ge=1)
    """Passes over each batch and updates per pass (arXiv 1909.08593: 4 passes of one minibatch)."""
    minibatches: int = Field(default=1, ge=1)
    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits wherever a log-probability is taken (arXiv 1909.08593 samples at 0.7)."""
    learning_rate: float = Field(default=3e-6, gt=0)
    """arXiv 2009.01325: 1.5e-5 at 1.3B to 7e-6 at 6.7B with 2M episodes; lower is safer on short runs."""
    critic_learning_rate: float = Field(default=1e-5, gt=0)
    """The critic has its own weights and stands a larger step (OpenRLHF: 9e-6)."""
    schedule: Literal["constant", "linear"] = "linear"
    critic: Literal["separate", "shared"] = "separate"
    """`separate`: from the reward model, or from the policy where the reward is a function;
    `shared`: a linear head on the policy's trunk, half the compute."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    clip: float = Field(default=0.2, gt=0)
    value_clip: float = Field(default=0.2, gt=0)
    value_coef: float = Field(default=0.1, gt=0)
    """Weight of the value loss (arXiv 1909.08593); matters with the shared critic."""
    kl_coef: float = Field(default=0.05, ge=0)
    """Per-token KL penalty in the reward (arXiv 2009.01325); with a target, the starting value."""
    kl_target: float | None = Field(default=None, gt=0)
    """Nats per response; None keeps the coefficient fixed (arXiv 1909.08593 uses 6)."""
    kl_horizon: int = Field(default=10_000, ge=1)
    missing_eos_penalty: float | None = 1.0
    """A response cut off by the limit scores minus this instead of its reward; None keeps its reward.
    1.0 is one standard deviation of a normalised reward model (arXiv 1909.08593 scores -1)."""
    target_kl: float | None = Field(default=None, gt=0)
    """Mean change of log-probability (k2, nats per token) that ends the passes over a batch early."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    microbatch_tokens: int = Field(default=8192, ge=1)
    """Padded tokens per forward pass: memory only. Lower it when memory runs out."""
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(default=20, ge=1)
    """Iterations between checkpoints."""
