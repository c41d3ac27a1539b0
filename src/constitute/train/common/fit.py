"""The supervised loop: epochs of shuffled batches, any loss that is a sum over examples, resumable."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from constitute.errors import GateFailed
from constitute.progress import Progress, Silent
from constitute.train.common import precision, sharding
from constitute.train.common.batching import micro_batches
from constitute.train.common.checkpoint import last_checkpoint, load_checkpoint, save_checkpoint, settle
from constitute.train.common.disk import checkpoint_bytes, model_bytes, most_bytes, note_disk
from constitute.train.common.optimizers import make_optimizer
from constitute.train.common.team import Team, deal, gather_team

Cut = Callable[[Sequence[int], int], list[list[int]]]


class FitConfig(Protocol):
    """The settings of the loop, as every supervised trainer's configuration holds them."""

    @property
    def epochs(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def warmup(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def microbatch_tokens(self) -> int: ...
    @property
    def gradient_checkpointing(self) -> bool: ...
    @property
    def checkpoint_every(self) -> int: ...

    @property
    def keep_checkpoints(self) -> int: ...


@dataclass(frozen=True)
class Job:
    """One training: its stage, the folder it writes, what makes it, its seed, and who is told of it."""

    stage: str
    out: Path
    made_by: dict[str, Any]
    seed: int
    progress: Progress
    optimizer: str = "adamw"
    """Its name in `optimizers.OPTIMIZERS`."""


def fit(
    model: nn.Module,
    lengths: Sequence[int],
    loss_sum: Callable[[Sequence[int]], Tensor],
    config: FitConfig,
    job: Job,
    *,
    weights: Sequence[float] | None = None,
    cut: Cut = micro_batches,
    before: Callable[[Sequence[int]], None] | None = None,
) -> list[float]:
    """Train the parameters of `model` that need gradients; returns the loss of each step.

    `lengths[i]` is the token cost of example i; `loss_sum(rows)` the sum of the losses of these examples,
    each times its weight, with its graph; `weights` (all positive, None for ones) divides it: a step's
    loss is sum(w * loss) / sum(w) over its whole batch, so that how `cut(lengths, token budget)` divides
    the batch changes the memory and nothing else. AdamW without weight decay, gradients clipped to norm 1,
    bf16 autocast on a GPU that has it.

    `before` is told the rows of each whole batch ahead of its gradient, for what a loss needs to know of all.

    Checkpoints go to OUT/checkpoints; called again with the same recipe it goes on from the last one, on a
    CPU bit for bit. `drop_checkpoints` removes them once the model is safe. Of several processes each
    takes its share of every batch. Raises `RunMismatch` for another recipe's checkpoint, `GateFailed` for
    a loss that is not finite, `EngineError` where another process is lost.
    """
    team = gather_team()
    stage, progress = job.stage, job.progress if team.main else Silent()
    shares = _shares(weights, len(lengths))
    batches = batches_of(len(lengths), config.batch_size, config.epochs, f"{job.seed}:{stage}")
    # The optimizer's weights are the parts, whatever a pass before left whole.
    sharding.reshard(model)
    optimizer, scheduler = _optimizer(model, config, job.optimizer, len(batches))
    folder, keep = job.out / "checkpoints", config.keep_checkpoints
    losses = _resume(last_checkpoint(folder, job.made_by), model, optimizer, scheduler)
    device = next(model.parameters()).device
    progress.start(f"train {stage}", len(batches), len(losses))
    _note_size(replace(job, progress=progress), model, config, len(batches), len(lengths))
    with _training(model, config.gradient_checkpointing), team.phase(f"train {stage}"):
        for step, rows in list(enumerate(batches, start=1))[len(losses) :]:
            total = math.fsum(shares[row] for row in rows)
            if before is not None:
                with torch.no_grad(), precision.autocast(device):
                    before(rows)
            pieces = _pieces(team, rows, lengths, config.microbatch_tokens, cut)
            loss = 0.0
            for piece in _told(pieces, lengths, progress, f"train {stage}"):
                loss += _backward(loss_sum, piece, total, device)
            loss = _together(team, model, loss)
            _step(model, optimizer, loss, step, stage)
            scheduler.step()
            losses.append(loss)
            progress.advance(f"train {stage}", loss=loss)
            if team.saves and step % config.checkpoint_every == 0 and step < len(batches):
                state = {"made_by": job.made_by, "losses": losses}
                save_checkpoint(folder, step, model, optimizer, scheduler, state, keep=keep)
    settle()
    progress.finish(f"train {stage}")
    return losses


def note_single_step(job: Job, steps: int, examples: int) -> None:
    """Say that a training of one step hardly changes the model, and which settings give more."""
    if steps == 1:
        job.progress.note(
            f"training {job.stage} takes a single step on {examples} examples, so the model hardly changes; "
            f"lower train.{job.stage}.batch_size or raise train.{job.stage}.epochs"
        )


def drop_checkpoints(out: Path) -> None:
    """Remove the checkpoints that `fit` left under `out`. Call it once the model is published."""
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def _shares(weights: Sequence[float] | None, n: int) -> list[float]:
    shares = [1.0] * n if weights is None else list(weights)
    if len(shares) != n or not all(math.isfinite(share) and share > 0 for share in shares):
        raise ValueError("each example needs a positive, finite weight; leave out those of weight 0")
    return shares


def _note_size(job: Job, model: nn.Module, config: FitConfig, steps: int, examples: int) -> None:
    """Say where a training is too short to change the model, or leaves more than the disk holds."""
    note_single_step(job, steps, examples)
    checkpoints = (steps - 1) // config.checkpoint_every
    need = most_bytes(checkpoint_bytes(model), model_bytes(model), checkpoints, kept=config.keep_checkpoints)
    note_disk(job.progress, job.stage, job.out, need)


def _pieces(
    team: Team, rows: Sequence[int], lengths: Sequence[int], token_budget: int, cut: Cut
) -> list[list[int]]:
    """This process's rows of a batch, cut to fit the memory."""
    mine = [rows[place] for place in deal([lengths[row] for row in rows], team.size)[team.rank]]
    pieces = team.in_step(cut([lengths[row] for row in mine], token_budget))
    return [[mine[place] for place in places] for places in pieces]


def _told(
    pieces: Sequence[Sequence[int]], lengths: Sequence[int], progress: Progress, stage: str
) -> Iterator[Sequence[int]]:
    """The pieces of a batch; before each, `progress` is told which part of the batch's tokens is done."""
    costs = [sum(lengths[row] for row in piece) for piece in pieces]
    for place, piece in enumerate(pieces):
        progress.part(stage, sum(costs[:place]) / max(1, sum(costs)))
        yield piece


def _backward(
    loss_sum: Callable[[Sequence[int]], Tensor], rows: Sequence[int], total: float, device: torch.device
) -> float:
    """Add the gradient of these rows' part of a step's loss; returns the part."""
    with precision.autocast(device):
        loss = loss_sum(rows) / total
    loss.backward()
    return float(loss.item())


def _together(team: Team, model: nn.Module, loss: float) -> float:
    """Sum gradients and loss over the processes; each then takes the same step."""
    if team.size == 1:
        return loss
    team.sum_gradients([parameter for parameter in model.parameters() if parameter.requires_grad])
    return float(team.sum(torch.tensor(loss, dtype=torch.float64, device=team.device)))


def batches_of(n: int, batch_size: int, epochs: float, key: str) -> list[list[int]]:
    """Rows of each step: each epoch is shuffled anew and cut into batches that differ by at most one row.

    An even cut rather than a short last batch, in which each example would count for more.
    """
    per_epoch = math.ceil(n / batch_size)
    steps = math.ceil(epochs * per_epoch)
    batches: list[list[int]] = []
    for epoch in range(math.ceil(epochs)):
        order = list(range(n))
        random.Random(f"{key}:{epoch}").shuffle(order)
        edges = [place * n // per_epoch for place in range(per_epoch + 1)]
        batches += [order[low:high] for low, high in pairwise(edges)]
    return batches[:steps]


def rate_factor(done: int, steps: int, schedule: str, warmup: float) -> float:
    """The learning rate of step `done` (from 0) over the configured one.

    Linear warm-up over the first ceil(warmup * steps) steps, of which none has rate 0; then constant,
    or down to 0 just after the last step, linearly or as half a cosine.
    """
    warm = math.ceil(warmup * steps)
    if done < warm:
        return (done + 1) / (warm + 1)
    if schedule == "constant":
        return 1.0
    gone = min(1.0, (done - warm) / max(1, steps - warm))
    return 1.0 - gone if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * gone))


def _optimizer(
    model: nn.Module, config: FitConfig, name: str, steps: int
) -> tuple[torch.optim.Optimizer, Any]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    sharded = sharding.is_sharded(model)
    optimizer = make_optimizer(name, parameters, lr=config.learning_rate, sharded=sharded)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: rate_factor(done, steps, config.schedule, config.warmup)
    )
    return optimizer, scheduler


def _resume(path: Path | None, model: nn.Module, optimizer: Any, scheduler: Any) -> list[float]:
    if path is None:
        return []
    return list(load_checkpoint(path, model, optimizer, scheduler)["losses"])


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: float, step: int, stage: str) -> None:
    sharding.reshard(model)
    norm = sharding.clip_grad_norm([weight for weight in model.parameters() if weight.grad is not None], 1.0)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient's norm is {norm}"
        raise GateFailed(f"the {what} at step {step}; lower train.{stage}.learning_rate")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@contextmanager
def _training(model: nn.Module, checkpointing: bool) -> Iterator[None]:
    """Training mode, with gradient checkpointing where wanted; evaluation mode afterwards."""
    trunks: list[Any] = [part for part in model.modules() if hasattr(part, "gradient_checkpointing_enable")]
    used = trunks[:1] if checkpointing else []
    model.train()
    for trunk in used:
        trunk.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        for trunk in used:
            trunk.gradient_checkpointing_disable()
        model.eval()
