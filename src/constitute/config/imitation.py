"""Settings of what stands on imitation beside SFT: expert iteration, conditioned training and Quark."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from constitute.types import Record


class ExpertIterationConfig(Record):
    """Rounds of best-of-n and fine-tuning on what was chosen (arXiv 1705.08439; 2305.14387, section 3.3).

    How it samples stands in `train.best_of_n`, how it fine-tunes in `train.sft`.
    """

    rounds: int = Field(default=3, ge=1)
    """Rounds at most (arXiv 2312.06585, section 5: gains end after one or two)."""
    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the prompts that are never trained on: each round's reward is measured on them."""
    level: float | None = Field(default=0.05, gt=0, lt=1)
    """A round counts where its reward is higher with a paired p below this; else the loop ends. `null` goes
    through all rounds. Ours."""
    start: Literal["last", "first"] = "last"
    """What each round fine-tunes: the policy of the `last` round, or the `first` model again (arXiv
    2312.06585, section 3), which drifts less."""


class ConditionedConfig(Record):
    """Answers of both kinds learned, each under words or a token that say which it is."""

    method: Literal["conditional", "hindsight", "hir"] = "conditional"
    """`conditional`: a token before the answer says whether it is good (arXiv 2302.08582); `hindsight`: a
    good and a bad answer in turn, each asked for (arXiv 2302.02676); `hir`: the request is rewritten to ask
    for what the answer is (arXiv 2302.05206)."""
    threshold: float | None = None
    """Answers above it are good. None: 0.5 for pairs, of which the likelier is good; else the mean score."""
    drop: float = Field(default=0.01, ge=0, lt=1)
    """`conditional`: share of the answers learned without a token (the authors' configurations: 0.01)."""
    mask: float = Field(default=0.15, ge=0, lt=1)
    """`hindsight`: share of the tokens before that a later token cannot attend to, against copying (arXiv
    2302.02676)."""
    contrast: float = Field(default=1.0, ge=0)
    """`hir`: weight of the loss that picks the request which an answer fulfils (arXiv 2302.05206)."""
    smoothing: float = Field(default=0.2, ge=0, lt=1)
    """`hir`: label smoothing of that choice (arXiv 2302.05206)."""
    entropy: float = Field(default=0.001, ge=0)
    """`hir`: weight of the entropy, which keeps answers diverse (the authors' code: 0.001)."""
    epochs: float = Field(default=2.0, gt=0)
    """As in SFT."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """As in SFT: for all weights; with LoRA use `lora_learning_rate`."""
    lora_learning_rate: ClassVar[float] = 2e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    batch_size: int = Field(default=32, ge=1)
    """Sequences per update."""
    max_length: int = Field(default=2048, ge=8)
    """Tokens of a sequence; a longer one is left out and counted."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts kept for the evaluation."""
    lora_rank: int = Field(default=0, ge=0)
    """0 trains every weight; otherwise the rank of LoRA adapters on all linear layers (arXiv 2106.09685). New
    tokens then keep the vectors they start with."""
    microbatch_tokens: int = Field(default=8192, ge=1)
    """Tokens per forward pass: memory only, the gradient is the same."""
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(default=100, ge=1)
    """Updates between checkpoints."""
    keep_checkpoints: int = Field(default=1, ge=1)
    """How many of the newest checkpoints stay while the training lasts."""


class QuarkConfig(Record):
    """Rounds of sampling and learning under reward tokens (Quark, arXiv 2205.13636).

    How it samples stands in `train.best_of_n`, how it learns in `train.conditioned`.
    """

    rounds: int = Field(default=4, ge=1)
    """Rounds of sampling and learning. Ours: the paper goes through more of fewer updates."""
    quantiles: int = Field(default=5, ge=2, le=100)
    """Tokens, of which each names an equal share of the pool by reward (arXiv 2205.13636: 5)."""
    kl_coef: float = Field(default=0.05, ge=0)
    """Weight of the exact KL of each token from the model at the start (arXiv 2205.13636)."""
    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the prompts that are never learned from: each round's reward is measured on them."""
