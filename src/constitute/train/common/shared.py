"""Pass a prompt once for all of its responses: the keys and values of its tokens serve each of them.

Attention of a response's token reads the prompt and the response's earlier tokens, whichever pass they came
from, so log-probabilities, values and gradients are those of whole sequences, up to rounding.
Shapes: G prompts of at most P tokens, and parts of b responses of at most l tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from constitute.train.common.batching import TokenBatch, collate, micro_batches

if TYPE_CHECKING:
    from constitute.train.common.rollout import Rollouts

# Of the tokens; below that, what the second pass costs of its own eats the gain.
_LEAST_GAIN = 0.15


@dataclass(frozen=True)
class Part:
    """Responses of like length: ids and positions (b, l), and whose prompt each starts with (b,)."""

    input_ids_bl: Tensor
    position_ids_bl: Tensor
    prompt_b: Tensor


@dataclass(frozen=True)
class SharedPrompts:
    """Prompts (G, P), padded on the right, how long each is (G,), and the responses to them in parts."""

    input_ids_GP: Tensor
    lengths_G: Tensor
    parts: tuple[Part, ...]


def gain(rollouts: Rollouts) -> float:
    """The share of the tokens that need no pass of their own when prompts are shared."""
    prompts = {tuple(ids) for ids in prompts_of(rollouts, range(len(rollouts.sequences)))}
    own = sum(rollouts.lengths) - sum(rollouts.prompt_lengths)
    return 1.0 - (own + sum(len(ids) for ids in prompts)) / sum(rollouts.lengths)


def worth_sharing(rollouts: Rollouts) -> bool:
    """Whether enough tokens are spared to pay for a pass in two steps."""
    return gain(rollouts) >= _LEAST_GAIN


def can_share(model: Any) -> bool:
    """Whether the model's attention reads all earlier tokens from a cache that gradients go through."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return not window and kinds <= {"full_attention"} and _agrees(model)


@torch.no_grad()
def _agrees(model: Any) -> bool:
    """Whether both ways give the same states on a few tokens."""
    from constitute.train.common.models import hidden_states

    size = model.config.get_text_config().vocab_size
    rows = [[place % size for place in range(length)] for length in (5, 7)]
    starts, device = [4, 4], model.device
    together = collate_shared(rows, starts, 0, device, 64)
    try:
        ours = hidden_states(model.base_model, together)[together.predict_N].float()
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return False
    apart = collate(rows, starts, 0, device)
    theirs = hidden_states(model.base_model, apart)[apart.predict_N].float()
    return bool((ours - theirs).abs().max() <= 1e-2 * theirs.abs().max())


def prompts_of(rollouts: Rollouts, rows: Sequence[int]) -> list[list[int]]:
    """The prompt of each row, in tokens."""
    return [rollouts.sequences[row][: rollouts.prompt_lengths[row]] for row in rows]


def groups_of(rollouts: Rollouts, rows: Sequence[int]) -> list[list[int]]:
    """`rows` in groups of one prompt each, in the order in which the prompts come up."""
    found: dict[tuple[int, ...], list[int]] = {}
    for row, ids in zip(rows, prompts_of(rollouts, rows), strict=True):
        found.setdefault(tuple(ids), []).append(row)
    return list(found.values())


def cut_groups(
    rollouts: Rollouts,
    rows: Sequence[int],
    token_budget: int,
    cut: Callable[[Sequence[int], int], list[list[int]]],
) -> list[list[int]]:
    """Rows of each pass: groups of one prompt, as many as fit the budget; one beyond it is split.

    `cut` takes the tokens of each group and the budget, as `batching.micro_batches` does.
    """
    units = [unit for group in groups_of(rollouts, rows) for unit in _split(rollouts, group, token_budget)]
    sizes = [rollouts.prompt_lengths[unit[0]] + sum(_own(rollouts, row) for row in unit) for unit in units]
    return [[row for place in part for row in units[place]] for part in cut(sizes, token_budget)]


def _split(rollouts: Rollouts, group: Sequence[int], token_budget: int) -> list[list[int]]:
    """The rows of one prompt in parts that each fit the budget with the prompt, like lengths together."""
    room = token_budget - rollouts.prompt_lengths[group[0]]
    parts: list[list[int]] = [[]]
    used = 0
    for row in sorted(group, key=lambda row: (-_own(rollouts, row), row)):
        if parts[-1] and used + _own(rollouts, row) > room:
            parts.append([])
            used = 0
        parts[-1].append(row)
        used += _own(rollouts, row)
    return parts


def _own(rollouts: Rollouts, row: int) -> int:
    """Tokens of a row's response."""
    return rollouts.lengths[row] - rollouts.prompt_lengths[row]


def collate_shared(
    sequences: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int],
    pad_id: int,
    device: torch.device,
    token_budget: int,
) -> TokenBatch:
    """A batch whose prompts stand once. Its indices count prompt states first, then those of each part."""
    prompts = [tuple(ids[:start]) for ids, start in zip(sequences, prompt_lengths, strict=True)]
    number = {ids: place for place, ids in enumerate(dict.fromkeys(prompts))}
    responses = [list(ids[start:]) for ids, start in zip(sequences, prompt_lengths, strict=True)]
    width = max(map(len, number))
    parts: list[Part] = []
    # Where each row's response begins among all states.
    places = [0] * len(sequences)
    offset = len(number) * width
    for rows in micro_batches([len(ids) for ids in responses], token_budget):
        longest = max(len(responses[row]) for row in rows)
        for place, row in enumerate(rows):
            places[row] = offset + place * longest
        offset += len(rows) * longest
        starts_b1 = torch.tensor([[prompt_lengths[row]] for row in rows], device=device)
        parts.append(
            Part(
                torch.tensor(_padded([responses[row] for row in rows], longest, pad_id), device=device),
                starts_b1 + torch.arange(longest, device=device),
                torch.tensor([number[prompts[row]] for row in rows], device=device),
            )
        )
    ends = [number[ids] * width + len(ids) - 1 for ids in prompts]
    predict = [
        state
        for row, ids in enumerate(responses)
        for state in (ends[row], *range(places[row], places[row] + len(ids) - 1))
    ]
    target = [token for ids in responses for token in ids]
    last = [places[row] + len(ids) - 1 for row, ids in enumerate(responses)]
    shared = SharedPrompts(
        torch.tensor(_padded(list(number), width, pad_id), device=device),
        torch.tensor([len(ids) for ids in number], device=device),
        tuple(parts),
    )
    return TokenBatch(
        shared.input_ids_GP,
        torch.arange(width, device=device).expand(len(number), width),
        torch.tensor(predict, dtype=torch.long, device=device),
        torch.tensor(target, dtype=torch.long, device=device),
        torch.tensor(last, dtype=torch.long, device=device),
        shared=shared,
    )


def _padded(rows: Sequence[Sequence[int]], width: int, pad_id: int) -> list[list[int]]:
    return [[*ids, *([pad_id] * (width - len(ids)))] for ids in rows]


def shared_states(trunk: Any, batch: TokenBatch) -> Tensor:
    """Last hidden states of the prompts and then of each part, flattened to (states, D)."""
    from transformers import DynamicCache

    shared = batch.shared
    assert shared is not None, "these are states of a batch whose prompts are shared"
    first = trunk(
        input_ids=shared.input_ids_GP,
        position_ids=batch.position_ids_BL,
        past_key_values=DynamicCache(),
        use_cache=True,
    )
    states = [first.last_hidden_state.flatten(0, 1)]
    kept = [(layer.keys, layer.values) for layer in first.past_key_values.layers]
    reach_GP = batch.position_ids_BL < shared.lengths_G[:, None]
    for part in shared.parts:
        cache = DynamicCache([(keys[part.prompt_b], values[part.prompt_b]) for keys, values in kept])
        own_bl = torch.ones_like(part.input_ids_bl, dtype=torch.bool)
        output = trunk(
            input_ids=part.input_ids_bl,
            position_ids=part.position_ids_bl,
            attention_mask=torch.cat([reach_GP[part.prompt_b], own_bl], dim=1),
            past_key_values=cache,
            use_cache=True,
        )
        states.append(output.last_hidden_state.flatten(0, 1))
    return torch.cat(states)
