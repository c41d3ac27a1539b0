"""Push the trained weights into the running engine, and check that both now say the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from constitute.errors import EngineError
from constitute.train.common import lora, sharding
from constitute.train.common.batching import collate, micro_batches
from constitute.train.common.models import Actor
from constitute.train.common.rollout import Rollouts
from constitute.train.doctor.learning import GAP_STOPS, GAP_WIDE
from constitute.types import Completion, SamplingParams

log = logging.getLogger(__name__)

PROBE_ROWS = 8


class Rollouter(Protocol):
    """The part of an engine that training uses; `engines.base.RolloutEngine` implements it."""

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, logprobs: bool
    ) -> list[Completion]: ...

    def score_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]: ...

    def update_weights(self, named_tensors: Any, *, fingerprint: str | None = None) -> None: ...


def named_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """A model's tensors by their names in a Hugging Face checkpoint, adapters merged; tied ones once.

    They are the model's own memory: an engine copies what it keeps. Sharded ones are made whole one at a
    time, so that all processes must go through them.
    """
    # An embedding and an output layer that share their weights are one tensor in a checkpoint.
    sharding.reshard(model)
    held = reversed(model.state_dict(keep_vars=True).items())
    first = {sharding.identity(tensor): name for name, tensor in held}
    once = {name.replace(".base_layer.", ".") for name in first.values()}
    for name, tensor in lora.plain_state(model):
        if name in once:
            yield name, sharding.whole(tensor.detach())


def logprob_gap(
    engine: Rollouter,
    actor: Actor,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    pad_id: int,
    token_budget: int,
) -> float:
    """Mean |engine - trainer| of the log-probabilities of the completions' tokens, at temperature 1."""
    theirs = engine.score_ids(prompts, completions)
    total, count = 0.0, 0
    for rows, ours_N in _own_logprobs(actor, prompts, completions, pad_id, token_budget):
        flat = torch.tensor([value for row in rows for value in theirs[row]], device=ours_N.device)
        total += (ours_N - flat).abs().sum().item()
        count += len(flat)
    return total / count


def follow_push(
    actor: Actor,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    pad_id: int,
    token_budget: int,
) -> None:
    """What every other process does while the first pushes sharded weights and checks them."""
    for _ in named_weights(actor.model):
        pass
    for _ in _own_logprobs(actor, prompts, completions, pad_id, token_budget):
        pass


@torch.no_grad()
def _own_logprobs(
    actor: Actor,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    pad_id: int,
    token_budget: int,
) -> Iterator[tuple[list[int], Tensor]]:
    """The trainer's log-probabilities (N,) of the completions' tokens, some rows at a time."""
    sequences = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
    starts = [len(prompt) for prompt in prompts]
    for rows in micro_batches([len(sequence) for sequence in sequences], token_budget):
        batch = collate(
            [sequences[row] for row in rows], [starts[row] for row in rows], pad_id, actor.model.device
        )
        yield rows, actor(batch, 1.0)[0]


def probe(rollouts: Rollouts) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and completions of the first rollouts, on which engine and trainer are compared."""
    pairs = list(zip(rollouts.sequences, rollouts.prompt_lengths, strict=True))[:PROBE_ROWS]
    return [row[:start] for row, start in pairs], [row[start:] for row, start in pairs]


def check_gap(gap: float) -> None:
    """Warn above 0.05 nats; raise `EngineError` above 0.2 or where the gap is no number.

    An engine that kept old weights shows a gap as large as the policy moved in the meantime: at a small
    learning rate it stays below both limits.
    """
    if gap <= GAP_WIDE:
        return
    if gap <= GAP_STOPS:
        log.warning(
            "engine and trainer differ by %.3f nats per token (expected below %.2f): "
            "the engine may run in a lower precision than the trainer",
            gap,
            GAP_WIDE,
        )
        return
    raise EngineError(
        f"after the weights were pushed, engine and trainer differ by {gap:.3f} nats per token "
        f"(limit {GAP_STOPS}); the engine likely kept old weights (a packed or tied output layer, a "
        "prefix cache) or serves another model; start it on the policy's folder and continue from the "
        "last checkpoint"
    )
