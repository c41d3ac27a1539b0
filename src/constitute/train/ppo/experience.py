"""What an algorithm is given, and what it makes of it: a scored batch becomes experience to learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from constitute.config.ppo import PPOConfig
from constitute.train.common import losses
from constitute.train.common.rollout import Rollouts, engine_logprobs

# (new_N, old_N, advantages_N, config) -> loss_N, where new and old are log-probabilities of sampled tokens.
PolicyLoss = Callable[[Tensor, Tensor, Tensor, PPOConfig], Tensor]


def clipped_loss(new_N: Tensor, old_N: Tensor, advantages_N: Tensor, config: PPOConfig) -> Tensor:
    """PPO's clipped surrogate (arXiv 1707.06347, equation 7), with the bounds that the settings add."""
    return losses.clipped_policy_loss(
        new_N, old_N, advantages_N, config.clip, config.clip_high, config.dual_clip
    )


@dataclass(frozen=True)
class Groups:
    """The K responses to each of P prompts, (P, K): their log-probabilities in nats, and their scores.

    `logprobs_PK` are those of the policy that learns, with their graph, summed over a response's tokens;
    `reference_PK` those of the reference. `beta` is the KL coefficient.
    """

    logprobs_PK: Tensor
    reference_PK: Tensor
    scores_PK: Tensor
    beta: float


# (groups, config) -> loss of each prompt's responses together (P,).
GroupLoss = Callable[[Groups, PPOConfig], Tensor]


@dataclass(frozen=True)
class Algorithm:
    """How a batch is learned from.

    `advantages` gives advantages (B, T) and, for the critic, returns (B, T); an algorithm without a critic
    gives None for the returns. `needs_group` asks for several samples of each prompt. `kl` says where the KL
    penalty stands unless `train.ppo.kl_in` does: in the `reward` of each token (k1), or in the `loss`
    (arXiv 2402.03300, equation 4); or the algorithm reads the reference and the coefficient itself (`own`).
    `needs_logprobs` says that `advantages` reads the batch's log-probabilities or entropies beyond the
    rewards; without that a forward pass may be spared. With a `group_loss`, whole responses of a prompt are
    compared in the loss, in place of `policy_loss` and the advantages.
    """

    advantages: Callable[[ScoredBatch], tuple[Tensor, Tensor | None]]
    needs_critic: bool
    needs_group: bool = False
    kl: Literal["reward", "loss", "own"] = "reward"
    policy_loss: PolicyLoss = clipped_loss
    needs_logprobs: bool = True
    group_loss: GroupLoss | None = None


@dataclass(frozen=True)
class ScoredBatch:
    """B responses of at most T tokens, and everything that is known of them before the update.

    Every tensor holds the whole batch in every process: whitening over a part of it would be another
    algorithm. `scores_B` is what each response is worth, after any normalisation, cut and penalty.
    `values_BT` is 0 without a critic. `ref_logprobs_BT` is None where `train.ppo.kl_coef` is 0.
    Unless `measured`, log-probabilities and entropies are 0 until the first pass of the update fills them.
    """

    algorithm: Algorithm
    rollouts: Rollouts
    scores_B: Tensor
    logprobs_BT: Tensor
    entropy_BT: Tensor
    values_BT: Tensor
    ref_logprobs_BT: Tensor | None
    kl_coef: float
    config: PPOConfig
    measured: bool = True

    @property
    def mask_BT(self) -> Tensor:
        """1.0 on the tokens of a response, 0.0 beyond its end."""
        return self.rollouts.mask_BT

    @property
    def group_size(self) -> int:
        """Responses to one prompt; they stand in adjacent rows."""
        return self.config.samples_per_prompt

    @property
    def unit(self) -> int:
        """Rows that stay together in minibatches and passes: a prompt's, where the loss compares them."""
        return unit_of(self.algorithm, self.config)

    @property
    def kl_place(self) -> str:
        """Where the KL penalty stands: `reward`, `loss`, or `own` for the algorithm's own use."""
        return self.algorithm.kl if self.config.kl_in == "auto" else self.config.kl_in

    @property
    def kl_in_loss(self) -> bool:
        """Whether the KL penalty is a part of the loss, and not of the rewards."""
        return self.kl_place == "loss"

    @property
    def rewards_BT(self) -> Tensor:
        """The score on the last token of each response, and the KL penalty where it stands in the reward."""
        reference_BT, kl_coef = self.ref_logprobs_BT, self.kl_coef
        if reference_BT is None or self.kl_place != "reward":
            reference_BT, kl_coef = self.logprobs_BT, 0.0
        return losses.token_rewards(self.scores_B, self.logprobs_BT, reference_BT, self.mask_BT, kl_coef)


def unit_of(algorithm: Algorithm, config: PPOConfig) -> int:
    """Rows that stay together in minibatches and passes: those of a prompt where the loss compares them."""
    return 1 if algorithm.group_loss is None else config.samples_per_prompt


def first_pass_measures(algorithm: Algorithm, config: PPOConfig) -> bool:
    """Whether the first pass of the update can give the old log-probabilities, so that none goes before it.

    It can where nothing needs them earlier, and where it sees all rows before the first step.
    """
    in_reward = "reward" in (config.kl_in, algorithm.kl if config.kl_in == "auto" else "")
    return (
        not (algorithm.needs_critic or algorithm.needs_logprobs)
        and not (in_reward and config.kl_coef)
        and config.minibatches == 1
        and config.old_logprobs == "trainer"
        and config.weight_cap is None
    )


@dataclass(frozen=True)
class Experience:
    """A scored batch with its advantages and returns, from which an update learns.

    `weights_BT` are importance weights of the policy loss, None where all are 1.
    """

    batch: ScoredBatch
    advantages_BT: Tensor
    returns_BT: Tensor
    weights_BT: Tensor | None = None


def experience(batch: ScoredBatch) -> Experience:
    """Estimate advantages and returns. Without a critic the returns are the values, so nothing is learned."""
    advantages_BT, returns_BT = batch.algorithm.advantages(batch)
    assert (returns_BT is not None) == batch.algorithm.needs_critic, (
        "returns are for a critic, and it needs them"
    )
    cap, weights_BT = batch.config.weight_cap, None
    if cap is not None:
        weights_BT = losses.importance_weights(batch.logprobs_BT, engine_logprobs(batch.rollouts), cap)
    return Experience(batch, advantages_BT, batch.values_BT if returns_BT is None else returns_BT, weights_BT)
