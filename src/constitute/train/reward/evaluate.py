"""A reward model on held-out prompts: overall, by principle, source and length, and head by head."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations
from typing import Any

from torch import Tensor

from constitute.stats import Estimate, mean_of, share_of
from constitute.train.common.metrics import accuracy_of, preference_metrics, reliability
from constitute.train.reward.model import Normalisation, combined
from constitute.train.reward.pairs import TokenPair

# By how much the longer answer exceeds the shorter; the last bucket holds the rest.
_LENGTH_STEPS = ((0.1, "under 10 %"), (0.5, "10-50 %"), (1.0, "50-100 %"))


def evaluate(raw_Nk: Tensor, pairs: Sequence[TokenPair], normal: Normalisation, seed: int) -> dict[str, Any]:
    """The figures of a split from its raw scores: rows are all chosen sides, then all rejected ones.

    Probabilities come from the difference of the raw scores, for an ensemble from its mean over the heads:
    the model's log-odds. Pairs count alike whatever their weight. An empty split gives no figures.
    """
    if not pairs:
        return {}
    margin_Nk = raw_Nk[: len(pairs)] - raw_Nk[len(pairs) :]
    margins: list[float] = margin_Nk.mean(dim=1).tolist()
    probs = [pair.row.chosen_prob for pair in pairs]
    figures: dict[str, Any] = {
        **preference_metrics(margins, probs, seed),
        "reliability": reliability(margins, probs, seed),
        "by_principle": _by(margins, pairs, lambda pair: pair.row.principles),
        "by_source": _by(margins, pairs, lambda pair: () if pair.row.source is None else (pair.row.source,)),
        "by_length": _by(margins, pairs, lambda pair: (_length_bucket(pair),)),
        "longer_wins": _longer_wins(margins, pairs),
    }
    if margin_Nk.shape[1] > 1:
        scores: list[float] = combined(raw_Nk, normal).tolist()
        used = [a - b for a, b in zip(scores[: len(pairs)], scores[len(pairs) :], strict=True)]
        figures["heads"] = _heads(margin_Nk.tolist(), probs, seed)
        if figures.get("accuracy"):
            figures["heads"]["accuracy_combined"] = accuracy_of(used, probs)
    return figures


def _by(
    margins: Sequence[float],
    pairs: Sequence[TokenPair],
    keys: Callable[[TokenPair], Iterable[str]],
) -> dict[str, Estimate]:
    """Accuracy by key; a pair counts under each of its keys, and pairs labelled 0.5 under none."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for margin, pair in zip(margins, pairs, strict=True):
        if pair.row.chosen_prob != 0.5:
            for key in keys(pair):
                groups.setdefault(key, []).append((margin, pair.row.chosen_prob))
    return {
        key: accuracy_of([m for m, _ in groups[key]], [p for _, p in groups[key]]) for key in sorted(groups)
    }


def _answer_lengths(pair: TokenPair) -> tuple[int, int]:
    return len(pair.chosen) - pair.prompt_length, len(pair.rejected) - pair.prompt_length


def _length_bucket(pair: TokenPair) -> str:
    shorter, longer = sorted(_answer_lengths(pair))
    excess = longer / shorter - 1.0
    return next((name for limit, name in _LENGTH_STEPS if excess < limit), "100 % and over")


def _longer_wins(margins: Sequence[float], pairs: Sequence[TokenPair]) -> dict[str, Estimate]:
    """How often the model, and how often the labels, prefer the answer of more tokens.

    Over the pairs of unlike length whose label is not 0.5: a model above its labels favours length itself.
    """
    model = labels = n = 0
    for margin, pair in zip(margins, pairs, strict=True):
        chosen, rejected = _answer_lengths(pair)
        if chosen != rejected and pair.row.chosen_prob != 0.5:
            n += 1
            model += (margin > 0) == (chosen > rejected) and margin != 0
            labels += (pair.row.chosen_prob > 0.5) == (chosen > rejected)
    return {"model": share_of(model, n), "labels": share_of(labels, n)} if n else {}


def _heads(margin_Nk: Sequence[Sequence[float]], probs: Sequence[float], seed: int) -> dict[str, Any]:
    """Each head's accuracy, how far the heads agree, and whether their agreement is worth anything.

    `pairwise` is the share of head pairs that prefer the same side, `unanimous` the share of pairs on
    which all do, `spread` the standard deviation of the difference of scores over the heads.
    """
    sides = [tuple(margin > 0 for margin in margins) for margins in margin_Nk]
    united = [len(set(side)) == 1 for side in sides]
    figures: dict[str, Any] = {
        "pairwise": mean_of([_agreement(side) for side in sides], seed),
        "unanimous": share_of(sum(united), len(united)),
        "spread": mean_of([_deviation(margins) for margins in margin_Nk], seed),
    }
    each = [accuracy_of(head, probs) for head in zip(*margin_Nk, strict=True)]
    if each[0].n:
        figures["accuracy_each"] = {str(number): head for number, head in enumerate(each, 1)}
    for wanted, name in ((True, "accuracy_unanimous"), (False, "accuracy_split")):
        rows = [row for row, one in enumerate(united) if one is wanted]
        figure = accuracy_of([sum(margin_Nk[row]) for row in rows], [probs[row] for row in rows])
        if figure.n:
            figures[name] = figure
    return figures


def _agreement(votes: Sequence[Hashable]) -> float:
    same = [one == other for one, other in combinations(votes, 2)]
    return sum(same) / len(same)


def _deviation(values: Sequence[float]) -> float:
    centre = sum(values) / len(values)
    return float((sum((value - centre) ** 2 for value in values) / len(values)) ** 0.5)
