"""What policy, reference and critic say of a batch before it is learned from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from constitute.config.ppo import PPOConfig
from constitute.train.common import rollout
from constitute.train.common.batching import Batching
from constitute.train.common.team import deal
from constitute.train.ppo.algorithms import find_algorithm
from constitute.train.ppo.experience import ScoredBatch, first_pass_measures
from constitute.train.ppo.setup import Models


def measured_batch(
    models: Models,
    rollouts: rollout.Rollouts,
    scores: Sequence[float],
    kl_coef: float,
    config: PPOConfig,
) -> tuple[ScoredBatch, rollout.Kept | None]:
    """Log-probabilities, entropies and values before the update, and a graph for it to reuse."""
    model, team = models.learner.model, models.learner.team
    mine = deal(rollouts.lengths, team.size)[team.rank]
    args = (rollouts, mine, Batching(models.learner.pad_id, config.microbatch_tokens))
    run = partial(rollout.forward_all, cut=team.cut)
    from_engine, kept, reference_BT = config.old_logprobs == "engine", None, None
    algorithm = find_algorithm(config)
    later = first_pass_measures(algorithm, config)
    with team.accelerator.autocast():
        if models.reference is not None:
            with torch.no_grad():
                (reference_BT,), _ = run(models.reference, *args, count=1)
        if later:
            logprobs_BT, entropy_BT, values_BT = (torch.zeros_like(rollouts.mask_BT) for _ in range(3))
        elif from_engine:
            (values_BT,), _ = run(lambda batch: (model.values(batch),), *args, count=1)
            logprobs_BT = rollout.engine_logprobs(rollouts)
            # The mean of -log pi over samples is an estimate of the entropy.
            entropy_BT, values_BT = -logprobs_BT, team.sum(values_BT)
        else:
            found, kept = run(
                lambda batch: model(batch, config.temperature, entropy=True),
                *args,
                count=3,
                keep=config.minibatches == 1,
            )
            logprobs_BT, entropy_BT, values_BT = (team.sum(tensor) for tensor in found)
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
    return batch, kept
