"""Score the same tokens in engine and trainer, to see how far the two lie apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from constitute.train.common import precision, sharding
from constitute.train.common.agreement import Gap, gap_of
from constitute.train.common.batching import collate, micro_batches
from constitute.train.common.models import Actor
from constitute.train.common.rollout import Rollouts
from constitute.train.common.rounding import exact, rounded
from constitute.types import Completion, SamplingParams

PROBE_ROWS, _START_TOKENS = 8, 32
_HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class Rollouter(Protocol):
    """The part of an engine that training uses; `engines.base.RolloutEngine` implements it."""

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, logprobs: bool
    ) -> list[Completion]: ...

    def score_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]: ...

    def update_weights(self, named_tensors: Any, *, fingerprint: str | None = None) -> None: ...


@dataclass(frozen=True)
class Unopened:
    """An engine that takes long to open; `open` does it, and whoever gave it closes it."""

    open: Callable[[], Rollouter]


@dataclass(frozen=True)
class Probe:
    """Prompts and completions on which engine and trainer are compared, and how the trainer pads and cuts."""

    prompts: list[list[int]]
    completions: list[list[int]]
    pad_id: int
    token_budget: int


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of a probe's tokens at temperature 1, in one order: the trainer's and the engine's.

    `rounded` are the trainer's with its weights rounded as the engine holds them; None where that cannot be
    computed.
    """

    ours: list[float]
    rounded: list[float] | None
    theirs: list[float]

    @property
    def gap(self) -> Gap:
        """What separates the engine from the trainer's weights as it holds them, or as they are.

        Rounding swallows small steps that all go one way: on SmolLM2-135M in bfloat16 a healthy engine was
        0.17 nats off after one update, of which 0.04 are left once the trainer's weights are rounded too.
        """
        own = self.ours if self.rounded is None else self.rounded
        return gap_of([a - b for a, b in zip(self.theirs, own, strict=True)])


def dtype_of(engine: Any) -> str:
    """The dtype of an engine's weights, `float32` or such; empty where it does not say."""
    return str(getattr(engine, "dtype", ""))


def probe_rows(rollouts: Rollouts, limit: int | None) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and completions of the first rollouts, cut so that an engine of `limit` tokens can score them.

    To score a text an engine samples one more token after it. Where a prompt leaves no room for two, its own
    last token is scored.
    """
    rows = zip(rollouts.sequences, rollouts.prompt_lengths, strict=True)
    return cut_rows([(row[:start], row[start:]) for row, start in list(rows)[:PROBE_ROWS]], limit)


def cut_rows(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]], limit: int | None
) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and completions of `rows`, each pair of at most `limit` - 1 tokens, at least one to score."""
    prompts, completions = [], []
    for prompt, completion in rows:
        whole = [*prompt, *completion]
        whole = whole if limit is None else whole[: limit - 1]
        start = min(len(prompt), len(whole) - 1)
        prompts.append(whole[:start])
        completions.append(whole[start:])
    return prompts, completions


def sampled_rows(
    engine: Rollouter, prompts: Sequence[Sequence[int]], sampling: SamplingParams, limit: int | None
) -> tuple[list[list[int]], list[list[int]]]:
    """As `probe_rows`, of short completions that the engine samples to `prompts` now."""
    rows = [list(ids) for ids in prompts[:PROBE_ROWS]]
    short = sampling.model_copy(update={"max_tokens": min(sampling.max_tokens, _START_TOKENS)})
    found = engine.generate_ids(rows, short, logprobs=False)
    return cut_rows([(ids, one.token_ids) for ids, one in zip(rows, found, strict=True)], limit)


def measure(engine: Rollouter, actor: Actor, probe: Probe) -> Scores:
    """Score the probe in both. Where weights are sharded every other process runs `follow_measure`."""
    theirs = engine.score_ids(probe.prompts, probe.completions)
    with nullcontext() if sharding.is_sharded(actor.model) else exact(actor.model):
        ours = own_logprobs(actor, probe)
    # Of an engine that does not say its dtype it is unknown which changes it could show, and so it is where
    # sharded weights are gathered in fewer bits than the engine has.
    exactly = dtype_of(engine) == "float32" and not coarse(actor)
    own = ours if exactly else _rounded_logprobs(actor, probe, dtype_of(engine))
    return Scores(ours, own, [value for row in theirs for value in row])


def coarse(actor: Actor) -> bool:
    """Whether the trainer itself computes in bfloat16, as it does where sharded weights are gathered so."""
    return precision.half() and sharding.is_sharded(actor.model)


def follow_measure(actor: Actor, probe: Probe) -> None:
    """What every other process does while the first measures sharded weights."""
    own_logprobs(actor, probe)


@torch.no_grad()
def own_logprobs(actor: Actor, probe: Probe) -> list[float]:
    """The trainer's log-probabilities of the completions' tokens, row after row."""
    pairs = list(zip(probe.prompts, probe.completions, strict=True))
    sequences = [[*prompt, *completion] for prompt, completion in pairs]
    found: dict[int, list[float]] = {}
    for rows in micro_batches([len(sequence) for sequence in sequences], probe.token_budget):
        starts = [len(probe.prompts[row]) for row in rows]
        batch = collate([sequences[row] for row in rows], starts, probe.pad_id, actor.model.device)
        values = iter(actor(batch, 1.0)[0].tolist())
        found |= {row: [next(values) for _ in probe.completions[row]] for row in rows}
    return [value for row in range(len(sequences)) for value in found[row]]


def _rounded_logprobs(actor: Actor, probe: Probe, dtype: str) -> list[float] | None:
    if dtype not in _HALF or sharding.is_sharded(actor.model):
        return None
    with rounded(actor.model, _HALF[dtype]):
        return own_logprobs(actor, probe)
