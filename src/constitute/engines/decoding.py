"""Sample from a causal language model in padded batches; pure functions over torch tensors.

Shapes: B sequences in a batch, T tokens so far, V vocabulary. Sequences are padded on the left, with
explicit position ids, so that every sequence ends in the last column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from constitute.types import SamplingParams

# Logits held at once by `score_batch`: 512 MiB in float32.
MOST_LOGITS = 2**27


@dataclass
class Sampled:
    """One sequence being sampled: its tokens, their log-probabilities (temperature 1), how it ended."""

    tokens: list[int]
    logprobs: list[float]
    finish: str | None = None


def left_padded(prompts: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[Any, Any, Any]:
    """(ids_BT, mask_BT, positions_BT) of prompts of unequal length."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def filtered(logits_BV: Any, sampling: SamplingParams) -> Any:
    """Probabilities of each row after temperature, top-k and nucleus filtering, in that order."""
    import torch

    logits = logits_BV.float() / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        smallest = torch.topk(logits, sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    if sampling.top_p < 1.0:
        ordered, order = torch.sort(logits, descending=True)
        shares = torch.softmax(ordered, -1)
        # The token that crosses the threshold stays in, so the set is never empty.
        dropped = shares.cumsum(-1) - shares >= sampling.top_p
        logits = logits.masked_fill(dropped.scatter(-1, order, dropped), float("-inf"))
    return torch.softmax(logits, -1)


def draw(logits_BV: Any, sampling: SamplingParams, uniforms: Sequence[float]) -> Any:
    """A token a row, (B,): the likeliest at temperature 0, else where its number falls in `filtered`.

    `uniforms` holds a number in [0, 1) a row. The first token whose cumulated probability exceeds it is
    taken, so that a seed means the same whatever the device and whoever shares the batch.
    """
    import torch

    if sampling.temperature == 0.0:
        return logits_BV.argmax(-1)
    # In float64, as the rest of a large vocabulary would round away.
    total_BV = filtered(logits_BV, sampling).double().cumsum(-1)
    wanted_B = torch.tensor(uniforms, dtype=torch.float64, device=total_BV.device) * total_BV[:, -1]
    return torch.searchsorted(total_BV, wanted_B[:, None], right=True)[:, 0]


def draw_each(logits_BV: Any, samplings: Sequence[SamplingParams], uniforms: Sequence[float]) -> Any:
    """As `draw`, with the settings of each row; rows with like settings are drawn at once."""
    import torch

    groups: dict[tuple[float, int, float], list[int]] = {}
    for row, each in enumerate(samplings):
        groups.setdefault((each.temperature, each.top_k, each.top_p), []).append(row)
    tokens_B = torch.empty(len(samplings), dtype=torch.long, device=logits_BV.device)
    for rows in groups.values():
        part = logits_BV if len(rows) == len(samplings) else logits_BV[rows]
        tokens_B[rows] = draw(part, samplings[rows[0]], [uniforms[row] for row in rows])
    return tokens_B


def sample_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[SamplingParams],
    *,
    ends: frozenset[int],
    pad: int,
    limit: int | None,
    stopped: Callable[[int, Sequence[int]], bool],
) -> list[Sampled]:
    """One completion a prompt with a key-value cache; each row has its own settings and seed.

    `stopped(row, tokens)` says whether the row's text now holds one of its stop strings. `limit` is the
    context in tokens; a row that reaches it ends with "length".
    """
    import torch

    rows = [Sampled([], []) for _ in prompts]
    generators = [_generator(sampling.seed) for sampling in samplings]
    ids, mask, positions = left_padded(prompts, pad, model.device)
    cache = None
    with torch.no_grad():
        while any(row.finish is None for row in rows):
            out = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = out.past_key_values
            logits_BV = out.logits[:, -1].float()
            # A number a row and step, drawn on the CPU from the row's own seed.
            uniforms = [torch.rand((), generator=each, dtype=torch.float64).item() for each in generators]
            tokens_B = draw_each(logits_BV, samplings, uniforms)
            chosen_B = logits_BV.gather(1, tokens_B[:, None])[:, 0] - logits_BV.logsumexp(-1)
            column = tokens_B.tolist()
            drawn = zip(rows, column, chosen_B.tolist(), strict=True)
            for index, (row, token, logprob) in enumerate(drawn):
                if row.finish is not None:
                    continue
                row.tokens.append(token)
                row.logprobs.append(logprob)
                room = limit is None or len(prompts[index]) + len(row.tokens) < limit
                if token in ends or stopped(index, row.tokens):
                    row.finish = "stop"
                elif len(row.tokens) >= samplings[index].max_tokens or not room:
                    row.finish = "length"
            ids = tokens_B[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
    return rows


def score_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    pad: int,
    most: int = MOST_LOGITS,
) -> list[list[float]]:
    """log P of each completion token (nats, temperature 1) given everything before it.

    At most `most` logits are held at once: rows share a pass while they fit, and a completion that does not
    fit alone is read part by part with a key-value cache.
    """
    vocabulary = model.config.get_text_config().vocab_size
    found: dict[int, list[float]] = {}
    group: list[int] = []
    # Those of like length share a pass, as all rows keep as many columns as the longest.
    order = sorted(range(len(prompts)), key=lambda row: len(completions[row]))
    for place, row in enumerate(order):
        group.append(row)
        following = len(completions[order[place + 1]]) if place + 1 < len(order) else 0
        if following and (len(group) + 1) * following * vocabulary <= most:
            continue
        pairs = [(prompts[index], completions[index]) for index in group]
        found.update(
            zip(group, _scored(model, pairs, pad, max(1, most // (len(group) * vocabulary))), strict=True)
        )
        group = []
    return [found[row] for row in range(len(prompts))]


def _scored(
    model: Any, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int, most_columns: int
) -> list[list[float]]:
    """`score_batch` of rows in one pass, or in several where more than `most_columns` hold their completions.

    The last token predicts nothing that is asked for, so it is not read.
    """
    import torch

    ids, mask, positions = left_padded([[*p, *c][:-1] for p, c in pairs], pad, model.device)
    width, columns = ids.shape[1], max([1, *(len(completion) for _, completion in pairs)])
    ends = [*range(width - columns + most_columns, width, most_columns), width]
    found: list[list[float]] = [[] for _ in pairs]
    cache, begin = None, 0
    with torch.no_grad():
        for end in ends:
            first = max(begin, width - columns)
            out = model(
                input_ids=ids[:, begin:end],
                attention_mask=mask[:, :end],
                position_ids=positions[:, begin:end],
                past_key_values=cache,
                use_cache=len(ends) > 1,
                logits_to_keep=end - first,
            )
            cache, begin = out.past_key_values if len(ends) > 1 else None, end
            for row, (_, completion) in enumerate(pairs):
                # Column c predicts the completion's token c - (width - its length).
                at = max(first, width - len(completion))
                if at < end:
                    offset = at - (width - len(completion))
                    targets = torch.tensor(list(completion[offset : offset + end - at]), device=model.device)
                    logits_TV = out.logits[row, at - end :].float()
                    chosen = logits_TV.gather(1, targets[:, None])[:, 0] - logits_TV.logsumexp(-1)
                    found[row] += chosen.tolist()
    return found


def next_batch(
    model: Any, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]], *, pad: int
) -> list[list[float]]:
    """log P (nats, temperature 1) of each of a prompt's `tokens` as the one that comes next; one pass."""
    import torch

    ids, mask, positions = left_padded(prompts, pad, model.device)
    with torch.no_grad():
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
        ).logits
    logprobs_BV = logits[:, -1].float().log_softmax(-1)
    return [logprobs_BV[row, list(asked)].tolist() for row, asked in enumerate(tokens)]


def _generator(seed: int | None) -> Any:
    import torch

    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
