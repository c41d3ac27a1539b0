"""Labels scored by engines that speak token ids, from log-probabilities of next tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

from constitute.engines.base import Ids, branches, check_length, label_logprob
from constitute.engines.render import Renderer
from constitute.engines.spelling import Scores, read_options, sequences, shared, spellings
from constitute.errors import RowError
from constitute.types import Choice, Request

# vLLM scores no more of them at once (`MAX_LOGPROB_TOKEN_IDS` in its sampling_params.py).
_MOST_TOKENS = 128

# Last tokens of a prompt by which spellings are known again, and how many sets of spellings are kept.
_TAIL = 16
_MOST_KNOWN = 1024
Options = list[tuple[Ids, ...]]
_WRITTEN: WeakKeyDictionary[Renderer, dict[tuple[Ids, tuple[str, ...]], Options]] = WeakKeyDictionary()

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
    options = _written(renderer, request, tuple(labels))
    check_length(len(context) + max(len(ids) for option in options for ids in option) - 1, limit)
    same = shared(options)
    rest = [[ids[len(same) :] for ids in option] for option in options]
    logprobs = await read_options(rest, after(context + same, next_logprobs))
    return Choice(labels=tuple(labels), logprobs=logprobs)


def _written(renderer: Renderer, request: Request, labels: tuple[str, ...]) -> Options:
    """The token ids of the labels' spellings after the request; the same after the same last tokens.

    Every spelling is a rendering of the whole prompt, which for ten ratings takes longer than a small model.
    How a text is split into tokens depends on no more than the word before it; one spelling is compared.
    """
    known = _WRITTEN.setdefault(renderer, {})
    key = (renderer.ids(request)[-_TAIL:], labels)
    if key in known and known[key][0][0] == _first_ids(renderer, request, labels[0]):
        return known[key]
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known[key] = sequences(labels, lambda text: renderer.label_ids(request, text))
    return known[key]


def _first_ids(renderer: Renderer, request: Request, label: str) -> Ids:
    """The ids of the first spelling that has any after the request."""
    for text in spellings(label):
        try:
            return renderer.label_ids(request, text)
        except RowError:
            continue
    return ()


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
