"""Learn from one batch of experience: epochs, minibatches and micro-batches of policy and value updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from constitute.config.ppo import PPOConfig
from constitute.errors import GateFailed
from constitute.train.common import losses, sharding
from constitute.train.common.models import ActorCritic
from constitute.train.common.rollout import Before, Passes
from constitute.train.common.team import Team
from constitute.train.ppo.experience import Experience, Groups, ScoredBatch


@dataclass
class UpdateStats:
    """Sums over the tokens seen by the update; `means` divides them."""

    tokens: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    grad_norms: dict[str, list[float]] = field(default_factory=lambda: {"actor": [], "critic": []})
    first: dict[str, float] = field(default_factory=dict)
    updates: int = 0
    stopped_early: bool = False

    def add(self, tokens: float, sums: dict[str, float]) -> None:
        """Add one minibatch's sums over its tokens."""
        if not self.tokens:
            self.first = {name: value / tokens for name, value in sums.items()}
        self.tokens += tokens
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Mean per token of each sum, and mean gradient norms before clipping."""
        figures = {name: value / self.tokens for name, value in self.sums.items()}
        for name, norms in self.grad_norms.items():
            if norms:
                figures[f"grad_norm_{name}"] = sum(norms) / len(norms)
        figures["first_ratio_error"] = self.first["ratio_error"]
        figures["first_approx_kl"] = self.first["approx_kl"]
        return figures


@dataclass(frozen=True)
class Learner:
    """What an update needs: the actor-critic, its optimizer, and where the two halves are."""

    model: ActorCritic
    optimizer: torch.optim.Optimizer
    team: Team
    actor_parameters: list[nn.Parameter]
    critic_parameters: list[nn.Parameter]
    pad_id: int


def update(
    learner: Learner,
    experience: Experience,
    config: PPOConfig,
    order_seed: int,
    before: Before | None = None,
    extra: Callable[[int], None] | None = None,
) -> UpdateStats:
    """Take `epochs` x `minibatches` steps. Raises `GateFailed` for a loss or gradient that is not finite.

    `before` holds the graphs that the forward passes before left, and how those were made; `extra` adds
    gradients of its own to each step, told the number of the step.
    """
    stats = UpdateStats()
    if before is None:
        unit = experience.batch.unit
        passes = Passes(learner.pad_id, config.microbatch_tokens, unit=unit, cut=learner.team.cut)
        before = Before(passes, {})
    batch = experience.batch
    n_rows = len(batch.rollouts.sequences)
    for epoch in range(config.epochs):
        for rows in _minibatches(n_rows, config.minibatches, order_seed + epoch, batch.unit):
            fills = not batch.measured and epoch == 0
            sums, tokens = _accumulate(learner, experience, rows, config, before, fills)
            if fills:
                for part_BT in (batch.logprobs_BT, batch.entropy_BT):
                    part_BT.copy_(learner.team.sum(part_BT))
            before.kept.clear()
            stats.add(tokens, sums)
            change = sums["approx_kl"] / tokens
            if config.target_kl is not None and change > config.target_kl:
                learner.optimizer.zero_grad(set_to_none=True)
                stats.stopped_early = True
                return stats
            if extra is not None:
                extra(stats.updates)
            _step(learner, config, stats)
    return stats


def _minibatches(n_rows: int, count: int, seed: int, unit: int = 1) -> list[list[int]]:
    """Rows of each minibatch. A single one keeps the order of the rollouts, so its first pass repeats
    the forward pass that gave the old log-probabilities bit for bit."""
    if count == 1:
        return [list(range(n_rows))]
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_rows // unit, generator=generator)
    parts = order.tensor_split(min(count, len(order)))
    return [[unit * place + row for place in part.tolist() for row in range(unit)] for part in parts]


def _accumulate(
    learner: Learner,
    experience: Experience,
    rows: Sequence[int],
    config: PPOConfig,
    before: Before,
    fills: bool = False,
) -> tuple[dict[str, float], float]:
    """Gradients of one minibatch; the mean is over all its tokens, however it is cut into pieces.

    With `fills` what this pass finds is the policy before the update, and is put into the batch.
    """
    rollouts, team = experience.batch.rollouts, learner.team
    tokens = rollouts.mask_BT[list(rows)].sum().item()
    weights_BT = loss_weights(experience, rows, config)
    passes = before.passes
    mine = passes.hand(rollouts, rows, team.size, team.rank)
    totals = torch.zeros(len(SUMS), device=team.device)
    for piece in passes.pieces(rollouts, mine):
        outputs = before.kept.pop(tuple(piece), None)
        if outputs is None:
            with team.accelerator.autocast():
                batch = passes.batch(rollouts, piece)
                outputs = learner.model(batch, config.temperature, entropy=fills)
            if fills:
                _fill(experience.batch, piece, outputs)
        loss, sums = _piece_loss(outputs, experience, piece, config, weights_BT)
        (loss / tokens).backward()
        totals += sums
        del outputs, loss
    return dict(zip(SUMS, team.sum(totals).tolist(), strict=True)), tokens


def loss_weights(experience: Experience, rows: Sequence[int], config: PPOConfig) -> Tensor:
    """What each token's policy loss counts, (B, T) over the whole batch and 0 outside `rows`.

    Divided by the tokens of `rows`, the weighted sum is the mean that `loss_mean` names; responses that
    `mask_overlong` leaves out count nowhere, not in the divisor either. A loss of groups is one number for
    several responses, each of which counts alike.
    """
    mean = "response" if experience.batch.algorithm.group_loss is not None else config.loss_mean
    rollouts = experience.batch.rollouts
    inside_BT = torch.zeros_like(rollouts.mask_BT)
    inside_BT[list(rows)] = rollouts.mask_BT[list(rows)]
    tokens = inside_BT.sum()
    if config.mask_overlong:
        ended_B = torch.tensor(rollouts.ended, device=inside_BT.device)
        inside_BT = inside_BT * ended_B[:, None]
    if mean == "token":
        share_BT = inside_BT / inside_BT.sum().clamp(min=1.0)
    else:
        lengths_B1 = inside_BT.sum(dim=1, keepdim=True)
        responses = (lengths_B1 > 0).sum().clamp(min=1)
        each = lengths_B1.clamp(min=1.0) if mean == "response" else config.max_new_tokens
        share_BT = inside_BT / each / responses
    return share_BT * tokens


def _fill(batch: ScoredBatch, rows: Sequence[int], outputs: tuple[Tensor, ...]) -> None:
    """Put log-probabilities and entropies of `rows`, row after row, into the batch."""
    inside = batch.mask_BT[rows].bool()
    for part_BT, found_N in zip((batch.logprobs_BT, batch.entropy_BT), outputs[:2], strict=True):
        own_BT = part_BT[rows]
        own_BT[inside] = found_N.detach().to(part_BT.dtype)
        part_BT[rows] = own_BT


# What an update adds up over its tokens for the metrics.
SUMS = ("policy_loss", "value_loss", "approx_kl", "clip_fraction", "value_clip_fraction", "ratio_error")


def _piece_loss(
    outputs: tuple[Tensor, ...],
    experience: Experience,
    rows: Sequence[int],
    config: PPOConfig,
    weights_BT: Tensor,
) -> tuple[Tensor, Tensor]:
    """Summed loss of a micro-batch and its detached sums for the metrics, in the order of `SUMS`."""
    new_N, _, values_N = outputs
    before = experience.batch
    inside = before.mask_BT[list(rows)].bool()

    def tokens_of(tensor_BT: Tensor) -> Tensor:
        return tensor_BT[list(rows)][inside]

    old_N, old_values_N = tokens_of(before.logprobs_BT), tokens_of(before.values_BT)
    compared_N = new_N
    if config.ratio == "sequence":
        lengths_B = inside.sum(dim=1)
        compared_N = old_N + losses.response_means(new_N - old_N, lengths_B)
    if before.algorithm.group_loss is not None:
        policy = _loss_of_groups(new_N, before, rows, weights_BT)
    else:
        policy_N = before.algorithm.policy_loss(
            compared_N, old_N, tokens_of(experience.advantages_BT), config
        )
        if experience.weights_BT is not None:
            policy_N = policy_N * tokens_of(experience.weights_BT)
        if before.kl_in_loss and before.ref_logprobs_BT is not None:
            reference_N = tokens_of(before.ref_logprobs_BT)
            policy_N = policy_N + before.kl_coef * losses.kl_estimate(config.kl_estimate, new_N, reference_N)
        policy = (policy_N * tokens_of(weights_BT)).sum()
    returns_N = tokens_of(experience.returns_BT)
    value_N = losses.clipped_value_loss(values_N, old_values_N, returns_N, config.value_clip)
    with torch.no_grad():
        sums = torch.stack(
            [
                policy,
                value_N.sum(),
                losses.approx_kl(new_N, old_N).sum(),
                losses.clipped_fraction(compared_N, old_N, config.clip, config.clip_high).sum(),
                ((values_N - old_values_N).abs() > config.value_clip).float().sum(),
                (torch.exp(new_N - old_N) - 1.0).abs().sum(),
            ]
        )
    return policy + config.value_coef * value_N.sum(), sums


def _loss_of_groups(new_N: Tensor, before: ScoredBatch, rows: Sequence[int], weights_BT: Tensor) -> Tensor:
    """The weighted sum of the losses of whole groups, whose responses are `rows`, in adjacent places."""
    loss, reference_BT, index = before.algorithm.group_loss, before.ref_logprobs_BT, list(rows)
    assert loss is not None and reference_BT is not None, "a loss of groups compares with the reference"
    shape = (len(index) // before.group_size, before.group_size)
    mask_BT = before.mask_BT[index]
    groups = Groups(
        losses.response_sums(new_N, mask_BT.sum(dim=1).long()).view(shape),
        (reference_BT[index] * mask_BT).sum(dim=1).view(shape),
        before.scores_B[index].view(shape),
        before.kl_coef,
    )
    return (loss(groups, before.config) * weights_BT[index].sum(dim=1).view(shape).sum(dim=1)).sum()


def _step(learner: Learner, config: PPOConfig, stats: UpdateStats) -> None:
    """Clip the gradients of actor and critic, each on its own, and take one optimizer step."""
    learner.team.sum_gradients([*learner.actor_parameters, *learner.critic_parameters])
    sharding.reshard(learner.model)
    for name, parameters in (("actor", learner.actor_parameters), ("critic", learner.critic_parameters)):
        if not parameters:
            continue
        norm = sharding.clip_grad_norm(parameters, config.max_grad_norm)
        if not norm < float("inf"):
            learner.optimizer.zero_grad(set_to_none=True)
            raise GateFailed(
                f"the loss of the {name} is no longer finite; lower train.{config.section}.learning_rate "
                f"or train.{config.section}.critic_learning_rate; the last checkpoint is kept"
            )
        stats.grad_norms[name].append(norm)
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    stats.updates += 1
