"""Pocket's world: counts, splits, minimal pairs and the grammar of principles."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from constitute.constitution.read import load_constitution
from constitute.pocket import wordings, words, world
from constitute.pocket.replies import AXES
from tools.pocket import mixes


def bag(text: str) -> Counter[str]:
    return Counter(re.findall(r"[a-z]+", text.lower()))


def test_the_world_is_as_large_as_promised() -> None:
    assert len(set(words.TOPICS)) >= 40
    assert len(words.ACTIONS) == 12
    assert all(len(verbs) >= 2 for verbs, _ in words.ACTIONS.values())
    assert len(words.AIMS) >= 6
    assert len({p.text for p in world.prompts("train", kind="mixed", n=20_001, seed=0)}) == 20_001


def test_every_way_and_verb_belongs_to_one_deed() -> None:
    ways = [way for _, ways in words.ACTIONS.values() for way in ways]
    verbs = [verb for verbs, _ in words.ACTIONS.values() for verb in verbs]
    assert len(set(ways)) == len(ways)
    assert len(set(verbs)) == len(verbs)


def test_train_and_test_share_no_topic_and_action() -> None:
    pairs = {
        split: {(p.ask.topic, p.ask.action) for p in world.prompts(split, kind="mixed", n=4000, seed=3)}
        for split in ("train", "test")
    }
    assert not pairs["train"] & pairs["test"]
    for position in (0, 1):
        assert {pair[position] for pair in pairs["train"]} == {pair[position] for pair in pairs["test"]}


def test_training_conversations_hold_no_test_pair_and_no_held_out_wording() -> None:
    rng = random.Random(5)
    held_out = {
        w.text() for axis in AXES for form in wordings.FORMS for w in wordings.wordings(axis, form, False)
    }
    question = re.compile(rf"\b({'|'.join(world.VERBS)}) the ({'|'.join(words.TOPICS)})\b")
    for tree in (kind(rng) for _ in range(150) for kind in mixes.KINDS):
        for turn in (turn for dialogue in tree for turn in dialogue):
            for verb, topic in question.findall(turn.content):
                assert world.split_of(topic, world.VERBS[verb]) == "train"
            assert not held_out & set(turn.content.split("\n"))


def test_the_same_arguments_draw_the_same_prompts() -> None:
    first = world.prompts("test", kind="mixed", n=50, seed=9)
    assert first == world.prompts("test", kind="mixed", n=50, seed=9)
    assert first != world.prompts("test", kind="mixed", n=50, seed=10)
    assert sum(p.harmful for p in first) == 25
    assert len({p.id for p in first}) == 50


def test_all_kinds_of_harm_are_drawn() -> None:
    drawn = Counter(
        p.ask.aim.kind for p in world.prompts("train", kind="harmful", n=700, seed=1) if p.ask.aim
    )
    assert set(drawn) == set(words.AIMS)
    assert min(drawn.values()) > 50


@pytest.mark.parametrize("split", ["train", "test"])
def test_minimal_pairs_are_the_same_words_in_another_order(split: world.Split) -> None:
    pairs = world.minimal_pairs(split, n=300, seed=2)
    for harmless, harmful in pairs:
        assert not harmless.harmful and harmful.harmful
        assert harmless.text() != harmful.text()
        assert bag(harmless.text()) == bag(harmful.text())
    assert {harmful.aim.kind for _, harmful in pairs if harmful.aim} == set(words.AIMS)


def test_no_word_list_decides_over_ordinary_prompts() -> None:
    """Naive Bayes over the words of 4,000 prompts reads the harm of 1,000 others poorly."""
    drawn = world.prompts("train", kind="mixed", n=5000, seed=4)
    seen: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for p in drawn[:4000]:
        seen[p.harmful].update(set(bag(p.text)))
    vocabulary = set(seen[True]) | set(seen[False])

    def says_harmful(text: str) -> bool:
        present = set(bag(text)) & vocabulary
        odds = dict.fromkeys(seen, 1.0)
        for side, counts in seen.items():
            for word in present:
                odds[side] *= (counts[word] + 1) / 2002
        return odds[True] > odds[False]

    right = sum(says_harmful(p.text) == p.harmful for p in drawn[4000:])
    assert right / 1000 < 0.8


@pytest.mark.parametrize(
    ("name", "axis", "least"),
    [
        ("harmless", "harmful", 12),
        ("concise", "verbose", 6),
        ("courteous", "rude", 6),
        ("plain", "preachy", 6),
    ],
)
def test_packaged_constitutions_are_held_out_wordings_of_one_axis(name: str, axis: str, least: int) -> None:
    principles = load_constitution(f"pocket/{name}").principles
    assert len(principles) >= least
    for principle in principles:
        for form in wordings.FORMS:
            wording = wordings.read_wording(getattr(principle, form))
            assert wording is not None and wording.form == form
            assert wording.predicate.axis == axis
            assert not wording.seen


def test_every_part_of_a_held_out_wording_occurs_in_training() -> None:
    for axis in AXES:
        for form in wordings.FORMS:
            seen = wordings.wordings(axis, form, True)
            for wording in wordings.wordings(axis, form, False):
                p = wording.predicate
                assert any(w.opening == wording.opening for w in seen)
                assert any(w.predicate.verb == p.verb for w in seen)
                assert any(w.predicate.noun == p.noun for w in seen)
                assert any(w.predicate.qualifier == p.qualifier for w in seen)
            assert len(seen) >= 24


def test_no_two_wordings_read_alike() -> None:
    for form in wordings.FORMS:
        texts = [w.text() for axis in AXES for s in (True, False) for w in wordings.wordings(axis, form, s)]
        assert len(set(texts)) == len(texts)
