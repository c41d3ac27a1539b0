"""Sampled responses as the trainer holds them, and forward passes over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from constitute.errors import EngineError
from constitute.train.common.batching import Batching, TokenBatch, collate, micro_batches
from constitute.types import Completion, Prompt


@dataclass(frozen=True)
class Rollouts:
    """B sampled responses: prompt and response in one row of token ids, and how each ended."""

    prompts: Sequence[Prompt]
    completions: Sequence[Completion]
    sequences: list[list[int]]
    prompt_lengths: list[int]
    ended: list[bool]
    mask_BT: Tensor

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each whole sequence."""
        return [len(sequence) for sequence in self.sequences]


@dataclass(frozen=True)
class Kept:
    """The outputs of one micro-batch with their graph, so that its backward needs no second forward."""

    rows: list[int]
    outputs: tuple[Tensor, ...]


def gather(
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    completions: Sequence[Completion],
    eos: frozenset[int],
    device: torch.device,
) -> Rollouts:
    """Put prompts and completions together. Raises `EngineError` for a completion without tokens."""
    sequences, ended = [], []
    for prompt, ids, completion in zip(prompts, prompt_ids, completions, strict=True):
        if not completion.token_ids:
            raise EngineError(f"the engine returned no token for prompt {prompt.id!r}; PPO needs token ids")
        stopped = completion.token_ids[-1] in eos
        if completion.finish_reason == "stop" and not stopped:
            raise EngineError(
                f"the engine ended the response to prompt {prompt.id!r} with token "
                f"{completion.token_ids[-1]}, which is none of the model's end tokens "
                f"{sorted(eos)}; add it to `eos_token_id` in the model's generation_config.json"
            )
        sequences.append([*ids, *completion.token_ids])
        ended.append(stopped)
    lengths_B = torch.tensor([len(completion.token_ids) for completion in completions])
    mask_BT = (torch.arange(int(lengths_B.max()))[None, :] < lengths_B[:, None]).float().to(device)
    return Rollouts(prompts, completions, sequences, [len(ids) for ids in prompt_ids], ended, mask_BT)


def batch_of(rollouts: Rollouts, rows: Sequence[int], pad_id: int) -> TokenBatch:
    """The rows of `rollouts`, padded."""
    return collate(
        [rollouts.sequences[row] for row in rows],
        [rollouts.prompt_lengths[row] for row in rows],
        pad_id,
        rollouts.mask_BT.device,
    )


def forward_all(
    forward: Callable[[TokenBatch], tuple[Tensor, ...]],
    rollouts: Rollouts,
    rows: Sequence[int],
    batching: Batching,
    *,
    count: int,
    keep: bool = False,
    cut: Callable[[Sequence[int], int], list[list[int]]] = micro_batches,
) -> tuple[list[Tensor], Kept | None]:
    """Run `forward` over `rows` in length-bucketed pieces; each of its `count` (N,) outputs as (B, T).

    They are 0 outside `rows`, of which there may be none.
    With `keep`, the first piece runs last and keeps its graph: `update` starts with it.
    """
    lengths = rollouts.lengths
    groups = [
        [rows[place] for place in part] for part in cut([lengths[r] for r in rows], batching.token_budget)
    ]
    outputs = [torch.zeros_like(rollouts.mask_BT) for _ in range(count)]
    kept = None
    for group in reversed(groups):
        with torch.set_grad_enabled(keep and group is groups[0]):
            pieces = forward(batch_of(rollouts, group, batching.pad_id))
        if keep and group is groups[0]:
            kept = Kept(group, pieces)
        group_mask = rollouts.mask_BT[group].bool()
        for output_BT, piece_N in zip(outputs, pieces, strict=True):
            part_BT = torch.zeros_like(rollouts.mask_BT[group])
            part_BT[group_mask] = piece_N.detach().to(part_BT.dtype)
            output_BT[group] = part_BT
    return outputs, kept


def engine_logprobs(rollouts: Rollouts) -> Tensor:
    """The engine's log-probabilities of the sampled tokens, (B, T). `EngineError` where it gave none."""
    logprobs_BT = torch.zeros_like(rollouts.mask_BT)
    for row, completion in enumerate(rollouts.completions):
        if len(completion.logprobs) != len(completion.token_ids):
            raise EngineError(
                f"the engine gave {len(completion.logprobs)} log-probabilities for "
                f"{len(completion.token_ids)} tokens; set old_logprobs=trainer and remove importance_cap"
            )
        logprobs_BT[row, : len(completion.logprobs)] = torch.tensor(completion.logprobs)
    return logprobs_BT
