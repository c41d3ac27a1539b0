"""What policy, reference and critic say of a batch before it is learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from constitute.config.ppo import PPOConfig
from constitute.train.common import rollout
from constitute.train.common.batching import TokenBatch
from constitute.train.common.models import ActorCritic
from constitute.train.common.shared import can_share, worth_sharing
from constitute.train.common.team import Team
from constitute.train.ppo.algorithms import find_algorithm
from constitute.train.ppo.experience import ScoredBatch, first_pass_measures, unit_of
from constitute.train.ppo.setup import Models


def _measured(
    model: ActorCritic, config: PPOConfig, from_engine: bool, batch: TokenBatch
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, entropies and values of a pass; values alone where the engine's log-probabilities
    are taken and the update cannot reuse the graph."""
    if from_engine and not torch.is_grad_enabled():
        nothing_N = torch.zeros(len(batch.target_N), device=batch.target_N.device)
        return nothing_N, nothing_N, model.values(batch)
    outputs: tuple[Tensor, Tensor, Tensor] = model(batch, config.temperature, entropy=not from_engine)
    return outputs


@dataclass
class Forward:
    """Passes batches through the models of a run."""

    models: Models
    config: PPOConfig

    @property
    def team(self) -> Team:
        """The processes that train together."""
        return self.models.learner.team

    def measured(
        self, rollouts: rollout.Rollouts, scores: Sequence[float], kl_coef: float
    ) -> tuple[ScoredBatch, rollout.Before]:
        """Log-probabilities, entropies and values before the update, and graphs for it to reuse."""
        config, model, team = self.config, self.models.learner.model, self.team
        passes = self._passes(rollouts)
        mine = passes.hand(rollouts, range(len(rollouts.sequences)), team.size, team.rank)
        args = (rollouts, mine, passes)
        from_engine, reference_BT = config.old_logprobs == "engine", None
        kept: rollout.Kept = {}
        algorithm = find_algorithm(config)
        later = first_pass_measures(algorithm, config)
        with team.accelerator.autocast():
            if self.models.reference is not None:
                with torch.no_grad():
                    (reference_BT,), _ = rollout.forward_all(self.models.reference, *args, count=1)
            if later:
                logprobs_BT, entropy_BT, values_BT = (torch.zeros_like(rollouts.mask_BT) for _ in range(3))
            else:
                found, kept = rollout.forward_all(
                    partial(_measured, model, config, from_engine),
                    *args,
                    count=3,
                    keep=config.minibatches == 1,
                )
                logprobs_BT, entropy_BT, values_BT = (team.sum(tensor) for tensor in found)
            if from_engine:
                logprobs_BT = rollout.engine_logprobs(rollouts)
                # The mean of -log pi over samples is an estimate of the entropy.
                entropy_BT = -logprobs_BT
        batch = ScoredBatch(
            algorithm=algorithm,
            rollouts=rollouts,
            scores_B=torch.tensor(scores, device=rollouts.mask_BT.device),
            logprobs_BT=logprobs_BT,
            entropy_BT=entropy_BT,
            values_BT=values_BT,
            ref_logprobs_BT=None if reference_BT is None else team.sum(reference_BT),
            kl_coef=kl_coef,
            config=config,
            measured=not later,
        )
        return batch, rollout.Before(passes, kept)

    def _passes(self, rollouts: rollout.Rollouts) -> rollout.Passes:
        """How these rollouts become passes: a prompt once for all of its samples where that pays."""
        config, team = self.config, self.team
        return rollout.Passes(
            self.models.learner.pad_id,
            config.microbatch_tokens,
            share_prompts=self._may_share and worth_sharing(rollouts),
            unit=unit_of(find_algorithm(config), config),
            # Every process of a sharded model must make as many passes as the others.
            keep_tokens=config.graph_tokens if team.sharding is None else 0,
            cut=team.cut,
        )

    @cached_property
    def _may_share(self) -> bool:
        """Whether the settings and the models let a prompt be passed once for its samples."""
        config, model = self.config, self.models.actor_critic
        if config.samples_per_prompt < 2 or not config.share_prompts:
            return False
        plain = self.team.sharding is None and not config.gradient_checkpointing
        plain = plain and find_algorithm(config).group_loss is None
        trunks = [trunk for trunk in (model.actor.model, model.critic) if trunk is not None]
        return plain and all(map(can_share, trunks))
