"""Labels scored by engines that speak token ids, from log-probabilities of next tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from constitute.engines.base import Ids, branches, check_length, label_logprob
from constitute.engines.render import Renderer
from constitute.engines.spelling import Scores, read_options, sequences, shared
from constitute.types import Choice, Request

# vLLM scores no more of them at once (`MAX_LOGPROB_TOKEN_IDS` in its sampling_params.py).
_MOST_TOKENS = 128

# (prompt ids, next tokens) -> log P (nats) of each of those tokens.
Next = Callable[[Ids, Sequence[int]], Awaitable[Mapping[int, float]]]


async def choose_by_ids(
    renderer: Renderer,
    request: Request,
    labels: Sequence[str],
    next_logprobs: Next,
    *,
    limit: int | None,
    spelled: bool,
) -> Choice:
    """The labels' log-probabilities, one question to `next_logprobs` a distinct beginning of theirs.

    With `spelled`, over all spellings of each, after what all of them share.
    """
    context = renderer.ids(request)
    if not spelled:
        ids = [renderer.label_ids(request, label) for label in labels]
        check_length(len(context) + max(map(len, ids)) - 1, limit)
        found = await after(context, next_logprobs)(branches(ids))
        return Choice(labels=tuple(labels), logprobs=tuple(label_logprob(label, found) for label in ids))
    options = sequences(labels, lambda text: renderer.label_ids(request, text))
    check_length(len(context) + max(len(ids) for option in options for ids in option) - 1, limit)
    same = shared(options)
    rest = [[ids[len(same) :] for ids in option] for option in options]
    logprobs = await read_options(rest, after(context + same, next_logprobs))
    return Choice(labels=tuple(labels), logprobs=logprobs)


def after(context: Ids, next_logprobs: Next) -> Scores:
    """The scores of tokens after `context` and a prefix, all prefixes at once."""

    async def scores(wanted: Mapping[Ids, tuple[int, ...]]) -> dict[Ids, dict[int, float]]:
        parts = [
            (prefix, tokens[start : start + _MOST_TOKENS])
            for prefix, tokens in wanted.items()
            for start in range(0, len(tokens), _MOST_TOKENS)
        ]
        found = await asyncio.gather(*(next_logprobs(context + prefix, part) for prefix, part in parts))
        merged: dict[Ids, dict[int, float]] = {prefix: {} for prefix in wanted}
        for (prefix, _), values in zip(parts, found, strict=True):
            merged[prefix].update(values)
        return merged

    return scores
