"""Learn from one batch of experience: epochs, minibatches and micro-batches of policy and value updates.

PPO-ptx mixes in the likelihood of good conversations (arXiv 2203.02155, equation 2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from constitute.config.ppo import PPOConfig
from constitute.config.train import SFTConfig
from constitute.engines.render import Renderer, RenderSettings
from constitute.errors import DataError, GateFailed
from constitute.train.common import losses, sharding
from constitute.train.common.batching import TokenBatch, collate
from constitute.train.common.data import read_conversations
from constitute.train.common.models import ActorCritic
from constitute.train.common.rollout import Before, Passes
from constitute.train.common.team import Team, deal
from constitute.train.ppo.experience import Experience, ScoredBatch


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
        before = Before(Passes(learner.pad_id, config.microbatch_tokens, cut=learner.team.cut), {})
    batch = experience.batch
    n_rows = len(batch.rollouts.sequences)
    for epoch in range(config.epochs):
        for rows in _minibatches(n_rows, config.minibatches, order_seed + epoch):
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


def _minibatches(n_rows: int, count: int, seed: int) -> list[list[int]]:
    """Rows of each minibatch. A single one keeps the order of the rollouts, so its first pass repeats
    the forward pass that gave the old log-probabilities bit for bit."""
    if count == 1:
        return [list(range(n_rows))]
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_rows, generator=generator)
    return [part.tolist() for part in order.tensor_split(min(count, n_rows))]


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
    `mask_overlong` leaves out count nowhere, not in the divisor either.
    """
    rollouts = experience.batch.rollouts
    inside_BT = torch.zeros_like(rollouts.mask_BT)
    inside_BT[list(rows)] = rollouts.mask_BT[list(rows)]
    tokens = inside_BT.sum()
    if config.mask_overlong:
        ended_B = torch.tensor(rollouts.ended, device=inside_BT.device)
        inside_BT = inside_BT * ended_B[:, None]
    if config.loss_mean == "token":
        share_BT = inside_BT / inside_BT.sum().clamp(min=1.0)
    else:
        lengths_B1 = inside_BT.sum(dim=1, keepdim=True)
        responses = (lengths_B1 > 0).sum().clamp(min=1)
        each = lengths_B1.clamp(min=1.0) if config.loss_mean == "response" else config.max_new_tokens
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
    advantages_N, returns_N = tokens_of(experience.advantages_BT), tokens_of(experience.returns_BT)
    compared_N = new_N
    if config.ratio == "sequence":
        lengths_B = inside.sum(dim=1)
        compared_N = old_N + losses.response_means(new_N - old_N, lengths_B)
    policy_N = before.algorithm.policy_loss(compared_N, old_N, advantages_N, config)
    if experience.weights_BT is not None:
        policy_N = policy_N * tokens_of(experience.weights_BT)
    if before.kl_in_loss and before.ref_logprobs_BT is not None:
        reference_N = tokens_of(before.ref_logprobs_BT)
        policy_N = policy_N + before.kl_coef * losses.kl_estimate(config.kl_estimate, new_N, reference_N)
    policy_N = policy_N * tokens_of(weights_BT)
    value_N = losses.clipped_value_loss(values_N, old_values_N, returns_N, config.value_clip)
    with torch.no_grad():
        sums = torch.stack(
            [
                policy_N.sum(),
                value_N.sum(),
                losses.approx_kl(new_N, old_N).sum(),
                losses.clipped_fraction(compared_N, old_N, config.clip, config.clip_high).sum(),
                ((values_N - old_values_N).abs() > config.value_clip).float().sum(),
                (torch.exp(new_N - old_N) - 1.0).abs().sum(),
            ]
        )
    return policy_N.sum() + config.value_coef * value_N.sum(), sums


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


# Token ids of a conversation and their labels; tokens labelled so bear no loss.
Labelled = tuple[list[int], list[int]]
_IGNORED = -100


def read_ptx(
    config: PPOConfig,
    tokenizer: Any,
    ends: frozenset[int],
    limit: int | None,
    rendering: RenderSettings | None = None,
) -> list[Labelled]:
    """Token ids and labels of `ptx_data`, those that fit `limit` tokens; empty where it is not used.

    Raises `UsageError` or `DataError` for a file that cannot be used.
    """
    if not config.ptx_coef or config.ptx_data is None:
        return []
    renderer = Renderer(tokenizer, tokenizer.name_or_path, ends, rendering)
    found = read_conversations(Path(config.ptx_data), SFTConfig().loss)
    rows = [row for conversation in found for row in conversation.rows(renderer)]
    kept = [row for row in rows if limit is None or len(row[0]) <= limit]
    if not kept:
        raise DataError(f"all {len(rows)} conversations of {config.ptx_data} are longer than {limit} tokens")
    return kept


def add_ptx(learner: Learner, rows: Sequence[Labelled], config: PPOConfig, seed: int) -> None:
    """Add the gradient of `ptx_coef` times the mean negative log-likelihood of a drawn batch."""
    team = learner.team
    count = max(1, config.batch_size // config.minibatches)
    rng = random.Random(seed)
    drawn = [rows[rng.randrange(len(rows))] for _ in range(count)]
    tokens = sum(label != _IGNORED for _, labels in drawn for label in labels)
    mine = deal([len(ids) for ids, _ in drawn], team.size)[team.rank]
    for places in team.cut([len(drawn[row][0]) for row in mine], config.microbatch_tokens):
        batch = labelled([drawn[mine[place]] for place in places], learner.pad_id, team.device)
        with team.accelerator.autocast():
            # The model's own distribution is what imitates: no sampling temperature.
            logprobs_N, _ = learner.model.actor(batch, 1.0)
        (-config.ptx_coef * logprobs_N.sum() / tokens).backward()


def labelled(rows: Sequence[Labelled], pad_id: int, device: torch.device) -> TokenBatch:
    """Right-padded conversations whose labelled tokens are the targets."""
    if not rows:
        return collate([], [], pad_id, device)
    width = max(len(ids) for ids, _ in rows)
    padded = [[*ids, *([pad_id] * (width - len(ids)))] for ids, _ in rows]
    predict = [
        row * width + place - 1
        for row, (_, labels) in enumerate(rows)
        for place, label in enumerate(labels)
        if label != _IGNORED
    ]
    target = [label for _, labels in rows for label in labels if label != _IGNORED]
    last = [row * width + len(ids) - 1 for row, (ids, _) in enumerate(rows)]
    return TokenBatch(
        torch.tensor(padded, device=device),
        torch.arange(width, device=device).expand(len(rows), width),
        torch.tensor(predict, dtype=torch.long, device=device),
        torch.tensor(target, dtype=torch.long, device=device),
        torch.tensor(last, device=device),
    )
