"""Sampled responses as the trainer holds them, and forward passes over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from constitute.errors import EngineError
from constitute.train.common.batching import TokenBatch, collate, micro_batches
from constitute.train.common.shared import collate_shared, cut_groups, groups_of
from constitute.train.common.team import deal
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


Cut = Callable[[Sequence[int], int], list[list[int]]]


@dataclass(frozen=True)
class Passes:
    """How rollouts become forward passes, alike before an update and in it.

    `keep_tokens` is how many padded tokens, beyond the first pass, keep their graph for the update. `unit`
    adjacent rows always stand in one pass, and then no prompt is shared.
    """

    pad_id: int
    token_budget: int
    share_prompts: bool = False
    keep_tokens: int = 0
    unit: int = 1
    cut: Cut = micro_batches

    def hand(self, rollouts: Rollouts, rows: Sequence[int], size: int, rank: int) -> list[int]:
        """The rows of process `rank` of `size`; where prompts are shared, whole groups."""
        groups = groups_of(rollouts, rows) if self.share_prompts else self._units(rows)
        sizes = [sum(rollouts.lengths[row] for row in group) for group in groups]
        return [row for place in deal(sizes, size)[rank] for row in groups[place]]

    def pieces(self, rollouts: Rollouts, rows: Sequence[int]) -> list[list[int]]:
        """The rows of each pass, longest first."""
        if self.share_prompts:
            return cut_groups(rollouts, rows, self.token_budget, self.cut)
        units = self._units(rows)
        sizes = [len(unit) * max(rollouts.lengths[row] for row in unit) for unit in units]
        return [
            [row for place in part for row in units[place]] for part in self.cut(sizes, self.token_budget)
        ]

    def _units(self, rows: Sequence[int]) -> list[list[int]]:
        return [list(rows[place : place + self.unit]) for place in range(0, len(rows), self.unit)]

    def batch(self, rollouts: Rollouts, rows: Sequence[int]) -> TokenBatch:
        """The rows of one pass, padded."""
        sequences = [rollouts.sequences[row] for row in rows]
        starts = [rollouts.prompt_lengths[row] for row in rows]
        device = rollouts.mask_BT.device
        if self.share_prompts and rows:
            return collate_shared(sequences, starts, self.pad_id, device, self.token_budget)
        return collate(sequences, starts, self.pad_id, device)

    def kept(self, rollouts: Rollouts, pieces: Sequence[Sequence[int]]) -> int:
        """How many of the first pieces keep their graph: one, and those that `keep_tokens` has room for."""
        room, count = self.keep_tokens, min(1, len(pieces))
        for piece in pieces[1:]:
            room -= len(piece) * max((rollouts.lengths[row] for row in piece), default=0)
            if room < 0:
                break
            count += 1
        return count


# Outputs of passes with their graph, by the rows of each, so that their backward needs no second forward.
Kept = dict[tuple[int, ...], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Before:
    """How the passes before an update were made, and what they kept for it."""

    passes: Passes
    kept: Kept


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


def forward_all(
    forward: Callable[[TokenBatch], tuple[Tensor, ...]],
    rollouts: Rollouts,
    rows: Sequence[int],
    passes: Passes,
    *,
    count: int,
    keep: bool = False,
) -> tuple[list[Tensor], Kept]:
    """Run `forward` over `rows` in length-bucketed pieces; each of its `count` (N,) outputs as (B, T).

    They are 0 outside `rows`, of which there may be none.
    With `keep`, the first pieces run last, with gradients on, and keep their graph for `update`.
    """
    groups = passes.pieces(rollouts, rows)
    keeping = passes.kept(rollouts, groups) if keep else 0
    outputs = [torch.zeros_like(rollouts.mask_BT) for _ in range(count)]
    kept: Kept = {}
    for place, group in reversed(list(enumerate(groups))):
        with torch.set_grad_enabled(place < keeping):
            pieces = forward(passes.batch(rollouts, group))
        if place < keeping:
            kept[tuple(group)] = pieces
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
