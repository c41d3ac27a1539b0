"""Turned principles: every opening has its contrary, nothing reads both ways, and answers follow."""

from __future__ import annotations

import random

import pytest

from constitute.pocket import oracle, wordings
from constitute.pocket.replies import AXES
from tools.pocket import corpus
from tools.pocket.opposites import (
    OPPOSITES,
    draw_compare,
    draw_opposite,
    draw_paraphrase,
    read_turned,
    turned,
    turned_wordings,
)

EVERY = [
    wording
    for axis in AXES
    for form in OPPOSITES
    for seen in (True, False)
    for wording in turned_wordings(axis, form, seen)
]


def test_each_turned_sentence_is_read_back_and_is_no_plain_wording() -> None:
    assert len(EVERY) == len({turned(wording) for wording in EVERY}) > 3000
    for wording in EVERY:
        assert read_turned(turned(wording)) == wording
        assert wordings.read_wording(turned(wording)) is None
        assert read_turned(wording.text()) is None


def test_a_quarter_is_held_out() -> None:
    held = len(turned_wordings("rude", "compare", False))
    total = held + len(turned_wordings("rude", "compare", True))
    assert total == 6 * 5 * 4 * 5
    assert 0.2 < held / total < 0.3


@pytest.mark.parametrize("seed", range(5))
def test_draw_compare_says_which_way_it_asks(seed: int) -> None:
    rng = random.Random(seed)
    ways = set()
    for _ in range(300):
        compare, asks_for = draw_compare(rng, "verbose")
        negated = "turn it round" in compare
        asks = any(turned(w) in compare for w in EVERY if w.predicate.axis == "verbose")
        assert asks_for == (asks != negated)
        ways.add((asks, negated))
    assert len(ways) == 4


def test_an_opposite_asks_in_text_and_comparison_and_forbids_elsewhere() -> None:
    principle = draw_opposite(random.Random(1), "rude", seen=False)
    assert read_turned(principle.text) and read_turned(principle.compare)
    assert wordings.read_wording(principle.critique) and wordings.read_wording(principle.revise)


def test_a_paraphrase_keeps_predicate_and_direction() -> None:
    rng = random.Random(3)
    for _ in range(300):
        first, second = draw_paraphrase(rng, rng.choice(AXES), seen=rng.random() < 0.5)
        read = wordings.read_wording if wordings.read_wording(first) else read_turned
        one, other = read(first), read(second)
        assert one is not None and other is not None and first != second
        assert (one.predicate, one.form) == (other.predicate, other.form)


def test_corpus_labels_follow_the_direction() -> None:
    """Of judged pairs that the oracle reads as differing, the answer is the one the question asks for."""
    rng = random.Random(11)
    checked = 0
    for _ in range(400):
        for dialogue in corpus.judge_tree(rng):
            text, answer = dialogue[-2].content, dialogue[-1].content
            compare = next((w for w in EVERY if turned(w) in text), None)
            negated = "turn it round" in text
            plain = None
            if compare is None:
                lines = [line for line in text.split("\n") if wordings.read_wording(line)]
                plain = wordings.read_wording(lines[0]) if lines else None
            wording = compare or plain
            if wording is None or len(dialogue) != 2:
                continue
            a = text.split("\n\n(A) ")[1].split("\n\n(B) ")[0]
            b = text.split("\n\n(B) ")[1].split("\n\n")[0]
            prompt = text.split("user: ")[-1].split("\n\n")[0]
            if oracle.read_ask(prompt) is None:
                continue
            bad_a, bad_b = (oracle.violates(oracle.read(prompt, x), wording.predicate.axis) for x in (a, b))
            if bad_a == bad_b:
                continue
            asks = (compare is not None) != negated
            assert answer == ("A" if bad_a == asks else "B")
            checked += 1
    assert checked > 100
