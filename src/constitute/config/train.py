"""Settings of the trainers except PPO's, which stand in `ppo`; each default names where it comes from."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from constitute.config.imitation import ConditionedConfig, ExpertIterationConfig, QuarkConfig
from constitute.config.ppo import GRPOConfig, PPOConfig
from constitute.types import Record

Schedule = Literal["constant", "linear", "cosine"]
Optimizer = Literal["adamw", "adamw_8bit", "adamw_offload"]
SaveDtype = Literal["auto", "float32", "bfloat16", "float16"]
Loss = Literal["last", "all"]
Packing = Literal["none", "flat", "full"]


class Footprint(Record):
    """What every trainer's moments take of memory, and its model of the disk."""

    optimizer: Optimizer = "adamw"
    """Of every trainer: `adamw` with moments in float32; `adamw_8bit` with moments of a quarter of that
    (arXiv 2110.02861; needs torchao); `adamw_offload` with moments and update on the CPU: the same numbers,
    for the time that each step's gradients and weights take to cross over."""
    save_dtype: SaveDtype = "auto"
    """What every trained model is saved in. `auto` is the type of the model it was trained from: the result
    takes the place of its base wherever that ran, at its size. Training itself keeps float32 in its
    checkpoints."""

    @property
    def inputs(self) -> dict[str, str]:
        """What a recipe says of it: that which changes the result by more than rounding.

        Moments on the CPU change nothing, so that a run that ran out of memory may go on with them.
        """
        found = {} if self.save_dtype == "auto" else {"save_dtype": self.save_dtype}
        return found | ({"optimizer": self.optimizer} if self.optimizer == "adamw_8bit" else {})


FOOTPRINT = Footprint()


class SFTConfig(Record):
    """Supervised fine-tuning on the assistant's answers, with TRL's SFTTrainer."""

    epochs: float = Field(default=2.0, gt=0)
    """Alpaca and most open recipes: 2-3 passes over small sets; a third mostly memorises."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Full fine-tuning of 1-8B models (Alpaca); with LoRA use `lora_learning_rate`."""
    lora_learning_rate: ClassVar[float] = 2e-4
    schedule: Schedule = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps spent warming up (Alpaca)."""
    batch_size: int = Field(default=32, ge=1)
    """Conversations per update."""
    device_batch_size: int = Field(default=8, ge=1)
    """Conversations per forward pass: memory only, the gradient is the same."""
    loss: Loss = "last"
    """Which of the assistant's turns are imitated: the `last`, which is the revision (arXiv 2212.08073,
    section 3.1: the turns before it are part of the prompt), or `all`. A turn's `weight` of 0 or 1 in the
    data comes first."""
    max_length: int = Field(default=2048, ge=8)
    """Tokens of a conversation; a longer one is left out and counted, never cut."""
    packing: Packing = "none"
    """`flat`: the conversations of a pass stand in one sequence without padding, each blind to the others;
    the updates are the same. `full`: conversations fill sequences of `max_length` tokens, and both batch
    sizes count sequences (best-fit decreasing, arXiv 2404.10830)."""
    held_out: float = Field(default=0.0, ge=0, lt=1)
    """Share of the prompts kept for the evaluation. Ours: 0, for revisions are few."""
    eval_every: int = Field(default=50, ge=1)
    """Updates between two scorings of the conversations held out."""
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
    keep_checkpoints: int = Field(default=1, ge=1)
    """How many of the newest checkpoints stay while the training lasts."""


class RewardConfig(Record):
    """Reward model on preference labels (arXiv 2309.00267, section 2.2)."""

    labels: Literal["soft", "hard", "clamped"] = "soft"
    """`soft`: cross-entropy on P(chosen) (arXiv 2309.00267); `hard`: the likelier side is the better
    (arXiv 1706.03741); `clamped`: P kept within [0.4, 0.6] (arXiv 2212.08073, section 4.1)."""
    margin: bool = False
    """Subtract each row's `margin` from the difference of scores (arXiv 2307.09288, equation 2)."""
    heads: int = Field(default=1, ge=1, le=64)
    """Heads on one trunk, each trained on a bootstrap resample of its own (arXiv 1602.04938)."""
    combine: Literal["mean", "pessimistic", "min", "lower_bound"] = "mean"
    """How several heads make one score: `mean`; `pessimistic`: mean - penalty * standard deviation;
    `min`: the lowest, the worst case (arXiv 2310.02743, section 3). `lower_bound`, for one head: its score -
    penalty * the standard error that the training pairs leave it (arXiv 2301.11270)."""
    penalty: float = Field(default=0.5, ge=0)
    """Weight of the deviation under `pessimistic`, and of the error under `lower_bound`. Ours: arXiv
    2310.02743 tunes it per task; 2 errors hold for 95 % of answers, as far as the errors are right."""
    ranking: Literal["pairs", "kwise"] = "pairs"
    """`kwise` puts the pairs of a prompt that agree on one order together, and learns the order by its
    Plackett-Luce likelihood (arXiv 2301.11270); `pairs` learns each alone (arXiv 2203.02155)."""
    pretrain_data: str | None = None
    """Pairs to learn from first, such as public ones: preference model pre-training (arXiv 2112.00861).
    Files as for `--data`; the model so far is kept in OUT/pretrained."""
    pretrain_epochs: float = Field(default=1.0, gt=0)
    """One pass, as arXiv 2112.00861."""
    pretrain_learning_rate: float = Field(default=1e-5, gt=0)
    """Ours: as `learning_rate`."""
    epochs: float = Field(default=1.0, gt=0)
    """One pass: reward models overfit in the second (arXiv 2203.02155, appendix C.2)."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """arXiv 2203.02155, appendix C.2 (9e-6); with LoRA use `lora_learning_rate`."""
    lora_learning_rate: ClassVar[float] = 1e-4
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
    lora_rank: int = Field(default=0, ge=0)
    """0 trains every weight; otherwise the head and, on all linear layers of the trunk, LoRA adapters of this
    rank (arXiv 2106.09685), merged when the model is saved."""
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(default=100, ge=1)
    """Updates between checkpoints."""
    keep_checkpoints: int = Field(default=1, ge=1)
    """How many of the newest checkpoints stay while the training lasts."""

    @model_validator(mode="after")
    def _fits_together(self) -> RewardConfig:
        if self.ranking == "kwise" and self.margin:
            raise ValueError(
                "margin is for ranking=pairs: a likelihood of rankings has none; remove one of them"
            )
        if self.combine == "lower_bound" and self.heads > 1:
            raise ValueError("combine=lower_bound is for one head; set heads=1, or combine=pessimistic")
        return self


class DPOConfig(Record):
    """Direct preference optimisation on soft labels (arXiv 2305.18290)."""

    loss: str = "sigmoid"
    """A loss by its name in `train.preference_losses`: `sigmoid` is DPO; `ipo` (arXiv 2310.12036); without a
    reference `simpo` (arXiv 2405.14734), `orpo` (arXiv 2403.07691) and `rrhf` (arXiv 2304.05302); of single
    answers, with a reference, `kto` (arXiv 2402.01306)."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the KL to the reference (arXiv 2305.18290, section 6: 0.1). SimPO's scale (2.0 to 10), and
    the weight of ORPO's odds ratio (0.1)."""
    gap: float = Field(default=0.0, ge=0)
    """What `simpo` wants between the answers at least (arXiv 2405.14734, section 4: 0.5 to 1.6)."""
    kto_desirable: float = Field(default=1.0, gt=0)
    """What a desirable answer counts for in `kto`, lambda_D (arXiv 2402.01306)."""
    kto_undesirable: float = Field(default=1.0, gt=0)
    """What an undesirable answer counts for in `kto`, lambda_U. Weight times number of both kinds should be
    about alike."""
    kto_threshold: float = 0.0
    """A single answer with a score in place of a label is desirable above this; 0 is the mean of a reward
    model of ours."""
    labels: Literal["soft", "hard", "clamped"] = "soft"
    """`soft`: cross-entropy on P(chosen) (arXiv 2309.00267, section 2.2); `hard`: the likelier side is the
    better (arXiv 2305.18290, equation 7); `clamped`: P kept within [0.4, 0.6] (arXiv 2212.08073, 4.1)."""
    epochs: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=5e-7, gt=0)
    """Full fine-tuning (arXiv 2310.16944); with LoRA use `lora_learning_rate`."""
    lora_learning_rate: ClassVar[float] = 1e-5
    schedule: Schedule = "linear"
    warmup: float = Field(default=0.1, ge=0, lt=1)
    batch_size: int = Field(default=64, ge=1)
    """Pairs per update (arXiv 2305.18290, appendix B); for `kto` answers, of which a pair has two."""
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
    keep_checkpoints: int = Field(default=1, ge=1)
    """How many of the newest checkpoints stay while the training lasts."""


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


Method = Literal["ppo", "grpo", "dpo", "best_of_n"]
# What `constitute run` trains for each method, after SFT. The names are those of the run's folders.
_STEPS: dict[Method, tuple[str, ...]] = {
    "ppo": ("reward", "ppo"),
    "grpo": ("reward", "grpo"),
    "dpo": ("dpo",),
    "best_of_n": ("reward", "best-of-n"),
}


class TrainConfig(Footprint):
    """Settings of the trainers, and which of them `constitute run` calls."""

    method: tuple[Method, ...] = ("ppo",)
    """What `constitute run` trains from the fine-tuned model: one of `ppo`, `grpo`, `dpo` and `best_of_n`, or
    a list of them; `[]` stops after SFT. All but `dpo` train a reward model first."""
    sft: SFTConfig = SFTConfig()
    reward: RewardConfig = RewardConfig()
    dpo: DPOConfig = DPOConfig()
    best_of_n: BestOfNConfig = BestOfNConfig()
    expert_iteration: ExpertIterationConfig = ExpertIterationConfig()
    conditioned: ConditionedConfig = ConditionedConfig()
    quark: QuarkConfig = QuarkConfig()
    ppo: PPOConfig = PPOConfig()
    grpo: GRPOConfig = GRPOConfig()

    @field_validator("method", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @property
    def footprint(self) -> Footprint:
        """What holds for the memory and the disk of all trainers."""
        return Footprint(optimizer=self.optimizer, save_dtype=self.save_dtype)

    @property
    def steps(self) -> frozenset[str]:
        """The trainers that `constitute run` calls, by the names of their folders in the run."""
        return frozenset({"sft"}.union(*(_STEPS[name] for name in self.method)))
