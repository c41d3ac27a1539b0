"""How far texts differ: self-BLEU, distinct-n, near-duplicates, and how much of what is to be said was said.

Self-BLEU is that of Zhu et al. (arXiv 1802.01886): the mean BLEU-4 of each text against all the others, with
the exponential smoothing and closest reference length of sacreBLEU (arXiv 1804.08771) on lower-cased words.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

from constitute.data.thin import NearDuplicates
from constitute.stages.filters.base import Gram, grams, words
from constitute.stats import Estimate, mean, mean_of, share_of
from constitute.types import Record

_ORDERS = (1, 2, 3, 4)
# Texts that share this part of their words (Jaccard) are of one cluster.
_CLUSTER = 0.3


class Diversity(Record):
    """Figures of n texts. High self-BLEU and near-duplicates mean alike, high distinct-n unlike.

    `coverage` is Good and Turing's estimate of the chance that the next text falls into a cluster that is
    there: 1 less the share of texts that are alone in theirs.
    """

    n: int
    self_bleu: Estimate
    distinct_1: Estimate
    distinct_2: Estimate
    near_duplicates: Estimate
    clusters: int
    coverage: Estimate


def diversity(texts: Sequence[str], near: float) -> Diversity:
    """All figures; `near` is the Jaccard index of pairs of words from which a text repeats an earlier one."""
    said = [words(text) for text in texts]
    seen = NearDuplicates(near, run=2)
    repeats = sum(seen.like(str(at), text) is not None for at, text in enumerate(texts))
    sizes = clusters(texts)
    return Diversity(
        n=len(texts),
        self_bleu=mean_of(self_bleu(said), "self-bleu"),
        distinct_1=distinct_n(said, 1),
        distinct_2=distinct_n(said, 2),
        near_duplicates=share_of(repeats, len(texts)),
        clusters=len(sizes),
        coverage=share_of(len(texts) - sizes.count(1), len(texts)),
    )


def clusters(texts: Sequence[str]) -> list[int]:
    """Sizes of clusters: a text joins the first leader that it shares words with, or leads its own."""
    seen = NearDuplicates(_CLUSTER, run=1)
    sizes: Counter[str] = Counter()
    for at, text in enumerate(texts):
        sizes[seen.like(str(at), text) or str(at)] += 1
    return list(sizes.values())


def distinct_n(said: Sequence[list[str]], n: int) -> Estimate:
    """Different n-grams over all n-grams (arXiv 1510.03055), with the jackknife's interval over texts.

    A bootstrap would draw texts twice, and so call every set less diverse than it is.
    """
    runs = [_runs(text, n) for text in said]
    counts = Counter(run for text in runs for run in text)
    total = sum(map(len, runs))
    if not total:
        return Estimate(value=None, low=None, high=None, n=len(said))
    value = len(counts) / total
    without = []
    for text in runs:
        own = Counter(text)
        lost = sum(counts[run] == number for run, number in own.items())
        if total > len(text):
            without.append((len(counts) - lost) / (total - len(text)))
    k = len(without)
    centre = mean(without) if k else value
    spread = math.sqrt((k - 1) / k * math.fsum((each - centre) ** 2 for each in without)) if k > 1 else 1.0
    half = NormalDist().inv_cdf(0.975) * spread
    return Estimate(value=value, low=max(0.0, value - half), high=min(1.0, value + half), n=len(said))


def self_bleu(said: Sequence[list[str]]) -> list[float]:
    """BLEU-4 of each text with all the others as its references, in [0, 1]; none of fewer than two texts."""
    if len(said) < 2:
        return []
    counted = [[Counter(_runs(text, n)) for n in _ORDERS] for text in said]
    most: list[dict[Gram, tuple[int, int]]] = [{} for _ in _ORDERS]
    for text in counted:
        for best, own in zip(most, text, strict=True):
            for run, number in own.items():
                first, second = best.get(run, (0, 0))
                best[run] = (number, first) if number > first else (first, max(second, number))
    lengths = sorted(map(len, said))
    return [_bleu(len(text), own, most, lengths) for text, own in zip(said, counted, strict=True)]


def _bleu(
    length: int, own: Sequence[Counter[Gram]], most: Sequence[dict[Gram, tuple[int, int]]], lengths: list[int]
) -> float:
    """The text's BLEU; the two largest counts of each n-gram give the largest among the others."""
    logs, smooth = [], 1.0
    for n, runs in enumerate(own):
        total = sum(runs.values())
        if not total:
            continue
        matched = 0
        for run, number in runs.items():
            first, second = most[n][run]
            matched += min(number, second if number == first else first)
        if not matched:
            smooth *= 2
        logs.append(math.log(matched / total if matched else 1 / (smooth * total)))
    if not logs:
        return 0.0
    reference = _closest(length, lengths)
    brevity = 1.0 if length >= reference else math.exp(1 - reference / length)
    return brevity * math.exp(math.fsum(logs) / len(logs))


def _closest(length: int, lengths: list[int]) -> int:
    """The length nearest to a text's own among all others, the shorter of two."""
    at = bisect_left(lengths, length)
    others = lengths[max(0, at - 1) : at] + lengths[at + 1 : at + 2]
    return min(others, key=lambda other: (abs(other - length), other))


def _runs(text: Sequence[str], n: int) -> list[Gram]:
    return grams(text, n) if len(text) >= n else []
