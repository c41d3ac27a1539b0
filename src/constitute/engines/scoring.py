"""Ask for exactly the log-probabilities that a set of labels needs; shared by the engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Ids = tuple[int, ...]


def branches(labels: Sequence[Ids]) -> dict[Ids, tuple[int, ...]]:
    """Which next tokens to score after which label prefix: {prefix: tokens, in order, once each}.

    The empty prefix is the context itself; single-token labels need nothing else.
    """
    wanted: dict[Ids, dict[int, None]] = {}
    for label in labels:
        for position, token in enumerate(label):
            wanted.setdefault(label[:position], {})[token] = None
    return {prefix: tuple(tokens) for prefix, tokens in wanted.items()}


def total(label: Ids, scores: Mapping[Ids, Mapping[int, float]]) -> float:
    """log P(label): the sum over its tokens of log P(token | context, tokens before it)."""
    return sum(scores[label[:position]][token] for position, token in enumerate(label))
