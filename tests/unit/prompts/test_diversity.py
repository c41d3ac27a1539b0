"""Figures of diversity, counted by hand on a few texts."""

from __future__ import annotations

import math
import random

import pytest

from constitute.prompts.diversity import clusters, distinct_n, diversity, self_bleu
from constitute.stages.filters.base import words


def said(*texts: str) -> list[list[str]]:
    return [words(text) for text in texts]


def test_self_bleu_of_equal_and_of_different_texts() -> None:
    assert self_bleu(said("a b c d e", "a b c d e")) == pytest.approx([1.0, 1.0])
    assert self_bleu(said("one text alone")) == []
    # Nothing matches: precisions 1/(2*5), 1/(4*4), 1/(8*3), 1/(16*2), and no penalty for length.
    none = math.exp(sum(math.log(p) for p in (1 / 10, 1 / 16, 1 / 24, 1 / 32)) / 4)
    assert self_bleu(said("a b c d e", "f g h i j")) == pytest.approx([none, none])


def test_self_bleu_by_hand() -> None:
    # Against "a b c d x y": 4/5 words, 3/4 pairs, 2/3 triples, 1/2 quadruples; shorter by one word.
    first, second = self_bleu(said("a b c d e", "a b c d x y"))
    assert first == pytest.approx(math.exp(1 - 6 / 5) * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert second == pytest.approx((4 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_a_word_counts_as_often_as_one_other_text_has_it() -> None:
    # "a a" against "a b" and "a c": one a of two, clipped; the pair "a a" is found nowhere.
    found = self_bleu(said("a a", "a b", "a c"))
    assert found[0] == pytest.approx((1 / 2 * 1 / 2) ** 0.5)


def slow_self_bleu(texts: list[list[str]]) -> list[float]:
    scores = []
    for at, own in enumerate(texts):
        others = [text for place, text in enumerate(texts) if place != at]
        logs, smooth = [], 1.0
        for n in range(1, min(4, len(own)) + 1):
            runs = [tuple(own[i : i + n]) for i in range(len(own) - n + 1)]
            matched = 0
            for run in set(runs):
                best = max(sum(tuple(o[i : i + n]) == run for i in range(len(o) - n + 1)) for o in others)
                matched += min(runs.count(run), best)
            if not matched:
                smooth *= 2
            logs.append(math.log(matched / len(runs) if matched else 1 / (smooth * len(runs))))
        near = min((abs(len(o) - len(own)), len(o)) for o in others)[1]
        brevity = 1.0 if len(own) >= near else math.exp(1 - near / len(own))
        scores.append(brevity * math.exp(sum(logs) / len(logs)))
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_comparing_each_with_all_gives(seed: int) -> None:
    rng = random.Random(seed)
    texts = [[rng.choice("abcdef") for _ in range(rng.randint(1, 12))] for _ in range(12)]
    assert self_bleu(texts) == pytest.approx(slow_self_bleu(texts))


def test_distinct_n_with_the_jackknife() -> None:
    # Words: a b, a c, d e: 5 different of 6. Without a text: 4/4, 4/4 (b or c gone, a stays: a c d e), 3/4.
    found = distinct_n(said("a b", "a c", "d e"), 1)
    spread = math.sqrt(2 / 3 * sum((x - 11 / 12) ** 2 for x in (1, 1, 3 / 4)))
    assert found.value == pytest.approx(5 / 6) and found.n == 3
    assert found.low == pytest.approx(5 / 6 - 1.959964 * spread, rel=1e-6) and found.high == 1.0
    assert distinct_n(said("a"), 2).value is None


def test_clusters_and_coverage() -> None:
    texts = [
        "how do i cook rice",
        "how do i cook beans",
        "who are you",
        "tell me a story now",
        "do i cook rice",
    ]
    assert sorted(clusters(texts)) == [1, 1, 3]
    found = diversity(texts, 0.6)
    assert (found.n, found.clusters, found.coverage.value) == (5, 3, 3 / 5)
    # "do i cook rice" has three of the four pairs of the first text; "beans" shares three of five.
    assert found.near_duplicates.value == 2 / 5
    assert diversity([], 0.6).self_bleu.n == 0
