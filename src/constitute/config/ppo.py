"""Settings of PPO; each default names where it comes from."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from constitute.config.ppo_checks import contradiction
from constitute.types import Record


class RewardSource(Record):
    """One part of the reward.

    `source` is a reward model's folder or Hub name, a Python function as `module:function`, the
    http(s):// URL of a service, or `judge`: the run's judge under its constitution, or under another as
    `judge:CONSTITUTION`.
    """

    source: str = Field(min_length=1)
    weight: float = Field(default=1.0, allow_inf_nan=False)
    """0 measures the part without optimising it."""
    name: str = ""
    """What the metrics call it; from the source where empty."""


class PromptShare(Record):
    """A file of prompts mixed into each batch, and the share of the batch that it fills."""

    file: str = Field(min_length=1)
    share: float = Field(gt=0, lt=1)
    name: str = ""
    """What the metrics call it; the file's name without its ending where empty."""


class PPOConfig(Record):
    """PPO with a critic, in the form of arXiv 1909.08593 and 2009.01325."""

    section: ClassVar[str] = "ppo"
    iterations: int = Field(default=200, ge=1)
    batch_size: int = Field(default=256, ge=1)
    """Rollouts per iteration (arXiv 2009.01325 and 2203.02155: 512; halved for one machine)."""
    mix: tuple[PromptShare, ...] = ()
    """Other files of prompts and their shares of each batch; the run's own prompts fill the rest."""
    epochs: int = Field(default=4, ge=1)
    """Passes over each batch and updates per pass (arXiv 1909.08593: 4 passes of one minibatch)."""
    minibatches: int = Field(default=1, ge=1)
    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits wherever a log-probability is taken (arXiv 1909.08593 samples at 0.7)."""
    learning_rate: float = Field(default=3e-6, gt=0)
    """arXiv 2009.01325: 1.5e-5 at 1.3B to 7e-6 at 6.7B with 2M episodes; lower is safer on short runs. With
    LoRA use `lora_learning_rate`."""
    lora_learning_rate: ClassVar[float] = 3e-5
    critic_learning_rate: float = Field(default=1e-5, gt=0)
    """The critic has its own weights and stands a larger step (OpenRLHF: 9e-6)."""
    schedule: Literal["constant", "linear"] = "linear"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the iterations over which the rates rise (arXiv 2203.02155, appendix C.4: the first 10; here
    none, as arXiv 1909.08593)."""
    value_warmup: int = Field(default=0, ge=0)
    """First iterations in which the critic alone learns, for one that starts from nothing; the warm-up of the
    policy begins after them."""
    critic: Literal["separate", "shared", "lora"] = "separate"
    """`separate`: from the reward model, or from the policy where the reward is a function;
    `shared`: a linear head on the policy's trunk, half the compute; `lora`: adapters of its own on the
    policy's frozen trunk (needs `lora_rank`)."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    clip: float = Field(default=0.2, gt=0)
    clip_high: float | None = Field(default=None, gt=0)
    """How far a ratio may rise above 1 where that differs from `clip`, the fall (arXiv 2503.14476,
    section 3.1: 0.28); None is `clip`."""
    dual_clip: float | None = Field(default=None, gt=1)
    """A token that is bad and has become this much likelier costs no more than at this ratio
    (arXiv 1912.09729, equation 5: 3); None is no such bound."""
    ratio: Literal["token", "sequence"] = "token"
    """Clip each token's ratio, or one of the whole response: the geometric mean of its tokens' (GSPO,
    arXiv 2507.18071, equation 7, which clips at 3e-4 and 4e-4)."""
    loss_mean: Literal["token", "response", "limit"] = "token"
    """What a token's policy loss is divided by: the tokens of the minibatch (arXiv 2503.14476, section 3.3);
    the tokens of its response, so that each response counts alike (arXiv 2402.03300, equation 3); or
    `max_new_tokens`, so that length alone changes nothing (arXiv 2503.20783, section 3.2)."""
    mask_overlong: bool = False
    """Leave responses that the limit cut off out of the policy loss (arXiv 2503.14476, section 3.4)."""
    value_clip: float = Field(default=0.2, gt=0)
    value_coef: float = Field(default=0.1, gt=0)
    """Weight of the value loss (arXiv 1909.08593); matters with the shared critic."""
    kl_coef: float = Field(default=0.05, ge=0)
    """Per-token KL penalty in the reward (arXiv 2009.01325); with a target, the starting value. At 0 no
    reference is loaded and no KL is measured; 1e-9 measures it without effect."""
    kl_in: Literal["auto", "reward", "loss"] = "auto"
    """Where the penalty stands: in each token's reward, or in the loss; `auto` as the algorithm has it."""
    kl_estimate: Literal["k1", "k2", "k3"] = "k3"
    """Estimate of the KL where it stands in the loss (J. Schulman, 2020; `k3`: arXiv 2402.03300,
    equation 4). The gradient of `k1` is 0 on average, that of `k2` the KL's own."""
    kl_target: float | None = Field(default=None, gt=0)
    """Nats per response; None keeps the coefficient fixed (arXiv 1909.08593 uses 6)."""
    kl_horizon: int = Field(default=10_000, ge=1)
    reference_refresh: int | None = Field(default=None, ge=1)
    """Iterations after which the reference becomes the policy, again and again; None keeps the first."""
    missing_eos_penalty: float | None = 1.0
    """A response cut off by the limit scores minus this instead of its reward, or what the worst of its batch
    scores where that is less; None keeps its reward. 1.0 is one standard deviation of a normalised reward
    model (arXiv 1909.08593 scores -1)."""
    length_penalty: float = Field(default=0.0, ge=0)
    """Taken off the score for each token beyond `length_free`. DAPO's soft punishment (arXiv 2503.14476,
    equation 13) over the last c tokens before the limit is 1 / c, with `length_free` c below the limit."""
    length_free: int = Field(default=0, ge=0)
    """Tokens of a response that cost nothing."""
    target_kl: float | None = Field(default=None, gt=0)
    """Mean change of log-probability (k2, nats per token) that ends the passes over a batch early."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    microbatch_tokens: int = Field(default=8192, ge=1)
    """Padded tokens per forward pass: memory only. Lower it when memory runs out."""
    graph_tokens: int = Field(default=0, ge=0)
    """Padded tokens, beyond one forward pass, whose graphs the passes before an update leave for it: each
    spares one forward pass of the first epoch and holds its memory until then."""
    share_prompts: bool = True
    """Pass a prompt once for all of its samples where that spares 15 % of the tokens: the same numbers but
    for rounding. Off with sharded weights, gradient checkpointing and sliding attention."""
    gradient_checkpointing: bool = False
    rewards: tuple[RewardSource, ...] = ()
    """What is maximised, together as `welfare` says; the run's own reward model where there is none."""
    welfare: Literal["sum", "mean", "min", "nash", "isoelastic"] = "sum"
    """How the rewards become one: their weighted `sum`, or a social welfare function (arXiv 2211.15006): the
    `mean` (utilitarian), the `min` (Rawls), the geometric mean (`nash`, after Bernoulli and Nash), or the
    `isoelastic` family between them."""
    aversion: float = Field(default=1.0, ge=0)
    """Aversion to inequality of `isoelastic`: 0 is `mean`, 1 is `nash`, and it goes to `min` beyond."""
    utility: Literal["raw", "sigmoid"] = "raw"
    """The scale on which the welfare is taken: the rewards as they are, or their sigmoid, between 0 and 1.
    `nash` and `isoelastic` need rewards above 0."""
    advantage: str = "gae"
    """An algorithm by its name in `train.ppo.algorithms`: `gae` needs a critic (arXiv 1506.02438), the others
    none. `rloo` takes the other samples of a prompt as the baseline (arXiv 2402.14740), `grpo` their mean and
    deviation (arXiv 2402.03300); `reinforce++` whitens the returns of the batch, and `reinforce++baseline`
    those minus the mean of their prompt (arXiv 2501.03262). `online_dpo` compares the best and the worst
    sample of a prompt by DPO's loss (arXiv 2402.04792), and `f_dpg` fits the policy to ref exp(reward /
    kl_coef) (arXiv 2302.08215); of both `kl_coef` is the beta."""
    pair_labels: Literal["soft", "hard"] = "soft"
    """Of `online_dpo`: P(best) is sigmoid of the difference of the scores, so that the optimum is PPO's; or 1
    (arXiv 2402.04792)."""
    divergence: Literal["forward_kl", "reverse_kl", "js", "tv"] = "js"
    """Of `f_dpg`: which distance from its target is made small (arXiv 2302.08215 recommends
    Jensen-Shannon)."""
    group_std: bool = True
    """Whether `grpo` divides by the deviation of each prompt's scores; without it prompts of which most
    responses are alike weigh less (arXiv 2503.20783, section 3.1)."""
    samples_per_prompt: int = Field(default=1, ge=1)
    """Responses to each prompt of a batch; all that compare samples of a prompt need at least 2."""
    resample_rounds: int = Field(default=0, ge=0)
    """How often prompts whose samples all score alike, from which nothing is learned, are replaced by others
    that are sampled anew (arXiv 2503.14476, section 3.2); what is still alike then stays."""
    score_clip: float | None = Field(default=None, gt=0)
    """Scores beyond this many units are cut to it before the KL penalty."""
    score_norm: Literal["none", "batch", "running"] = "none"
    """`batch` shifts and scales the scores of each batch to mean 0 and deviation 1; `running` by the mean and
    deviation of all scores so far; a reward model of ours is normalised when it is saved."""
    lora_rank: int = Field(default=0, ge=0)
    """0 trains every weight; otherwise LoRA adapters of this rank on all linear layers (arXiv 2106.09685), of
    a separate critic too, and the reference is the policy with its adapters off."""
    ptx_coef: float = Field(default=0.0, ge=0)
    """Weight of the mean log-likelihood of `ptx_data` added to each update (arXiv 2203.02155, equation 2)."""
    ptx_data: str | None = None
    """Conversations for `ptx_coef`: JSONL or Parquet as for `train sft`."""
    old_logprobs: Literal["trainer", "engine"] = "trainer"
    """Log-probabilities of the sampled tokens: computed again by the trainer, or the engine's own, which
    saves a forward pass."""
    importance_cap: float | None = Field(default=None, gt=0)
    """Weight each token's policy loss by min(this, pi_trainer / pi_engine), for an engine in another
    precision or with older weights; None is no weight, and 2 with `off_by` = 1 (TRL caps at 3)."""
    off_by: Literal[0, 1] = 0
    """Updates by which the weights that sample a batch may be older than those that learn from it. At 1 the
    next batch is sampled while the learner works (arXiv 2505.24298), at the same time where the engine is a
    server."""
    sync_gap_limit: float | None = Field(default=None, gt=0)
    """Mean difference of log-probabilities between engine and trainer (nats per token) that stops the run,
    with p95 and max in proportion; None takes what the engine's dtype needs. For an engine whose arithmetic
    is coarser than its dtype, as fp32 with TF32 products."""
    held_out: Annotated[float, Field(ge=0, lt=1)] | str = 0.0
    """Prompts that are never trained on and measured during the run: a share of the prompts, or a file."""
    held_out_every: int = Field(default=10, ge=1)
    """Iterations between two measurements on them; the start and the end are measured too."""
    stop_on: str | None = None
    """Part of the reward, such as one of weight 0, by whose fall on the held-out prompts the run stops and by
    which the best policy is chosen; `sum` is their weighted sum; None stops nothing."""
    patience: int = Field(default=3, ge=1)
    """Measurements in a row that must be lower than the best one beyond chance before `stop_on` stops."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an average of the policies after each iteration, saved beside the policy in OUT/ema
    (DeepSpeed-Chat: 0.992 an update); None keeps none."""
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where metrics go besides metrics.jsonl."""
    samples_kept: int = Field(default=4, ge=0)
    """Completions of each iteration written to samples.jsonl."""
    save_rollouts: bool = False
    """Write every rollout to OUT/rollouts, to be replayed into the learner without an engine."""
    keep_policies: bool = False
    """Keep the policy of every checkpoint, not the best and the last alone."""
    checkpoint_every: int = Field(default=20, ge=1)
    """Iterations between checkpoints."""
    keep_checkpoints: int = Field(default=1, ge=1)
    """How many of the newest checkpoints stay; the best stays beside them."""

    @property
    def weight_cap(self) -> float | None:
        """The cap of the importance weights in force; None where there are no weights."""
        if self.importance_cap is None and self.off_by and self.old_logprobs == "trainer":
            return 2.0
        return self.importance_cap

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> PPOConfig:
        for wrong, problem in (
            (
                self.kl_target is not None and not self.kl_coef,
                "kl_target multiplies kl_coef, and 0 stays 0; set kl_coef above 0, or remove kl_target",
            ),
            (
                self.batch_size % self.samples_per_prompt != 0,
                f"batch_size {self.batch_size} is no multiple of samples_per_prompt "
                f"{self.samples_per_prompt}",
            ),
            (
                self.resample_rounds > 0 and self.samples_per_prompt < 2,
                "resample_rounds looks at samples of one prompt; set samples_per_prompt to 2 or more",
            ),
            (
                self.resample_rounds > 0 and self.save_rollouts,
                "stored rollouts are replayed batch by batch, and resample_rounds samples several times a "
                "batch; set save_rollouts=false or resample_rounds=0",
            ),
            (
                self.critic == "lora" and not self.lora_rank,
                "critic=lora puts adapters on a frozen policy; set lora_rank, or critic=shared",
            ),
            (
                self.critic == "lora" and self.gradient_checkpointing,
                "critic=lora switches adapters within a step and cannot recompute it; "
                "set gradient_checkpointing=false, or critic=shared",
            ),
            (
                self.temperature != 1.0 and (self.old_logprobs == "engine" or self.weight_cap is not None),
                "the engine's log-probabilities are those at temperature 1; set temperature=1, or "
                "old_logprobs=trainer without importance_cap and off_by",
            ),
            (
                self.off_by > 0 and self.resample_rounds > 0,
                "resample_rounds judges a batch before the next is sampled, and off_by=1 samples the next "
                "one first; set off_by=0 or resample_rounds=0",
            ),
            (
                self.old_logprobs == "engine" and self.importance_cap is not None,
                "with old_logprobs=engine the ratio is already the engine's; remove importance_cap",
            ),
            (
                self.ptx_coef > 0 and self.ptx_data is None,
                "ptx_coef needs conversations; set ptx_data to a file of them",
            ),
        ):
            if wrong:
                raise ValueError(problem)
        found = contradiction(self)
        if found is not None:
            raise ValueError(found)
        return self


class GRPOConfig(PPOConfig):
    """GRPO (arXiv 2402.03300): PPO's settings with other defaults, for groups of samples and no critic."""

    section: ClassVar[str] = "grpo"
    advantage: str = "grpo"
    samples_per_prompt: int = Field(default=8, ge=1)
    """arXiv 2402.03300 samples 64, most open recipes 8."""
    epochs: int = Field(default=1, ge=1)
    """arXiv 2402.03300, section 4.2: one update a batch."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """arXiv 2402.03300, section 4.2; with LoRA use `lora_learning_rate`."""
    lora_learning_rate: ClassVar[float] = 1e-5
    kl_coef: float = Field(default=0.04, ge=0)
    """arXiv 2402.03300, section 4.2."""
    schedule: Literal["constant", "linear"] = "constant"
