"""Group sequences of different lengths into padded batches that waste little and fit the memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from constitute.train.common.shared import SharedPrompts

# A batch of this many tokens keeps the processor busy; beyond it, padding costs more than a new batch.
_BUSY_TOKENS = 1024
_LIKE_LENGTH = 0.9


@dataclass(frozen=True)
class Batching:
    """How sequences become forward passes: the token that pads them, and the padded tokens of one pass."""

    pad_id: int
    token_budget: int


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices of `lengths` in groups of like length, rows times longest within `token_budget`.

    Longest first, so that memory runs out at once or not at all. A sequence longer than the budget
    gets a batch of its own. Every index appears once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    groups: list[list[int]] = []
    for index in order:
        longest = lengths[groups[-1][0]] if groups else 0
        fits = bool(groups) and (len(groups[-1]) + 1) * longest <= token_budget
        alike = lengths[index] >= _LIKE_LENGTH * longest
        if fits and (alike or len(groups[-1]) * longest < _BUSY_TOKENS):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def prompt_order(n_prompts: int, batch_size: int, iteration: int, seed: int) -> list[int]:
    """Indices of the prompts of one iteration: a fresh shuffle each time all of them were used.

    It depends on (seed, iteration) alone, so a resumed run goes on where it stood.
    """
    start = iteration * batch_size
    chosen: list[int] = []
    for lap in range(start // n_prompts, (start + batch_size - 1) // n_prompts + 1):
        order = list(range(n_prompts))
        random.Random(f"{seed}:prompts:{lap}").shuffle(order)
        chosen += order[max(0, start - lap * n_prompts) : start + batch_size - lap * n_prompts]
    return chosen


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded sequences and where their response tokens are.

    input_ids_BL and position_ids_BL hold B sequences of at most L tokens. `predict_N` indexes the
    flattened B*L positions whose next token is a response token, row after row; `target_N` is that
    token; `last_B` indexes each row's last token in the same way. Padding comes after every real
    token, so causal attention needs no mask to ignore it. A batch of no sequences is one row of padding
    that nothing is read from: what a process passes that must keep step with others and has no rows left.
    With `shared`, the ids are those of the prompts, and the indices count as `shared.collate_shared` says.
    `attention_BL` is 0 on tokens that no later token attends to; None hides none.
    """

    input_ids_BL: Tensor
    position_ids_BL: Tensor
    predict_N: Tensor
    target_N: Tensor
    last_B: Tensor
    shared: SharedPrompts | None = None
    attention_BL: Tensor | None = None


def collate(
    sequences: Sequence[Sequence[int]], prompt_lengths: Sequence[int], pad_id: int, device: torch.device
) -> TokenBatch:
    """Pad prompt-and-response sequences on the right; lengths, not token ids, say what is padding."""
    if not sequences:
        nothing_N = torch.zeros(0, dtype=torch.long, device=device)
        filler_BL = torch.full((1, 2), pad_id, device=device)
        return TokenBatch(
            filler_BL, torch.arange(2, device=device)[None], nothing_N, nothing_N.clone(), nothing_N.clone()
        )
    width = max(len(sequence) for sequence in sequences)
    padded = [[*sequence, *([pad_id] * (width - len(sequence)))] for sequence in sequences]
    predict = [
        row * width + place - 1
        for row, (sequence, start) in enumerate(zip(sequences, prompt_lengths, strict=True))
        for place in range(start, len(sequence))
    ]
    target = [
        token for sequence, start in zip(sequences, prompt_lengths, strict=True) for token in sequence[start:]
    ]
    last = [row * width + len(sequence) - 1 for row, sequence in enumerate(sequences)]
    # Plain counting in the padding too: a repeated position would be read as packed sequences.
    positions_BL = torch.arange(width, device=device).expand(len(sequences), width)
    return TokenBatch(
        torch.tensor(padded, device=device),
        positions_BL,
        torch.tensor(predict, dtype=torch.long, device=device),
        torch.tensor(target, dtype=torch.long, device=device),
        torch.tensor(last, device=device),
    )
