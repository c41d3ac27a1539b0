"""Selection: the released files' own order, balance, and duplicates counted out by hand."""

import itertools
import random

import pytest
from places import SHARED

from constitute.evals.families.persona import select_persona
from constitute.evals.families.reply import select_replies
from constitute.evals.items import read_items
from constitute.evals.select import fold, near_texts
from constitute.types import EvalItem

DATA = SHARED / "model-written-evals"
REASONS = ("label not sure", "repeats another", "other label missing", "more than wanted")
PERSONA = sorted((DATA / "persona").glob("*.jsonl"))


def item(identifier, label, confidence, statement):
    other = " No" if label == " Yes" else " Yes"
    return EvalItem(
        id=identifier,
        question=statement,
        statement=statement,
        label_confidence=confidence,
        answer_matching_behavior=label,
        answer_not_matching_behavior=other,
    )


@pytest.mark.skipif(not PERSONA, reason=f"real eval sets are not at {DATA}")
@pytest.mark.parametrize("path", PERSONA, ids=lambda path: path.stem[:40])
def test_selecting_a_released_file_again_gives_its_order(path):
    released = read_items(path)
    shuffled = random.Random(0).sample(released, len(released))
    chosen = select_persona(shuffled, 500, 0.5, near_duplicate=None)
    assert list(chosen.items) == released
    assert chosen.dropped == dict.fromkeys(REASONS, 0)


def grams(text):
    folded = fold(text)
    return {folded[at : at + 5] for at in range(max(1, len(folded) - 4))}


def by_comparing_all(texts, threshold):
    """Whether each text is kept, where each is compared with every one kept before."""
    expected, kept = [], []
    for own in map(grams, texts):
        expected.append(all(len(own & other) / len(own | other) < threshold for other in kept))
        if expected[-1]:
            kept.append(own)
    return expected


def kept_of(texts, threshold):
    seen = near_texts(threshold)
    return [seen.like(str(at), text) is None for at, text in enumerate(texts)]


@pytest.mark.skipif(not PERSONA, reason=f"real eval sets are not at {DATA}")
def test_near_repeats_of_a_released_file_are_those_of_comparing_all_pairs():
    statements = [i.statement for i in read_items(DATA / "persona" / "subscribes-to-Islam.jsonl")]
    expected, found = by_comparing_all(statements, 0.7), kept_of(statements, 0.7)
    assert expected.count(False) == 163
    # MinHash misses one pair in a hundred at the threshold itself, and never finds one that is none.
    assert [at for at, kept in enumerate(found) if not kept and expected[at]] == []
    assert found.count(False) == 162


def test_fold_and_near_texts_by_hand():
    assert fold("  “I’d _never_ LIE!”  ") == "i d never lie"
    texts = ["I help people.", "i help PEOPLE", "I help most people.", "Rain is wet", "I help people!!"]
    assert kept_of(texts, 0.7) == [True, False, True, True, False]
    # "i help people" has 9 runs of 5 characters, "i help most people" 14; they share 6: 6 / 17.
    assert kept_of(texts, 0.35) == [True, False, False, True, False]
    assert kept_of(texts, 0.36) == [True, False, True, True, False]
    assert kept_of(["Hi!", "hi", "ho"], 1.0) == [True, False, True]


WORDS = [
    "apples are sweet",
    "bridges cross rivers",
    "clouds bring rain",
    "dogs chase cats",
    "eagles fly high",
]


def test_selection_is_balanced_sorted_alternating_and_counted():
    yes = [item(f"y{i}", " Yes", c, WORDS[i]) for i, c in enumerate([0.6, 0.9, 0.5, 0.8])]
    no = [item("n0", " No", 0.7, "no man is an island"), item("n1", " No", 0.4, "never say never")]
    no += [
        item("n2", " No", 0.95, "nothing ventured, nothing gained"),
        item("n3", " No", 0.65, "NOTHING ventured nothing gained!"),
    ]
    chosen = select_persona(yes + no, 10, 0.5, 0.7)
    assert [i.id for i in chosen.items] == ["y1", "n2", "y3", "n0"]
    assert chosen.dropped == dict(zip(REASONS, (2, 1, 1, 0), strict=True))
    assert [i.id for i in select_persona(yes + no, 1, 0.5, 0.7).items] == ["y1", "n2"]
    assert select_persona(yes + no, 1, 0.5, 0.7).dropped["more than wanted"] == 3
    assert select_persona(yes, 10, 0.5, 0.7).items == ()


def test_a_statement_under_both_labels_is_kept_once_with_the_surer_label():
    both = [
        item("y", " Yes", 0.6, WORDS[0]),
        item("n", " No", 0.8, WORDS[0]),
        item("y2", " Yes", 0.7, WORDS[1]),
    ]
    assert [i.id for i in select_persona(both, 5, 0.5, 0.7).items] == ["y2", "n"]


def test_every_order_of_candidates_gives_the_same_set():
    rows = [
        item("y0", " Yes", 0.9, WORDS[0]),
        item("y1", " Yes", 0.8, WORDS[1]),
        item("n0", " No", 0.7, WORDS[2]),
    ]
    orders = {select_persona(order, 2, 0.5, 0.7).items for order in itertools.permutations(rows)}
    assert len(orders) == 1


def reply(identifier, principle, confidence, question):
    return EvalItem(
        id=identifier,
        question=question,
        answer_matching_behavior=" better",
        answer_not_matching_behavior=" worse",
        label_confidence=confidence,
        behavior=principle,
        family="reply",
    )


def test_replies_are_ranked_within_each_principle():
    rows = [
        reply("a0", "kind", 0.7, WORDS[0]),
        reply("b0", "brief", 0.9, WORDS[1]),
        reply("a1", "kind", None, WORDS[2]),
        reply("a2", "kind", 0.8, WORDS[3]),
        reply("b1", "brief", 0.55, WORDS[4]),
        reply("a3", "kind", 0.65, "Apples are SWEET."),
    ]
    chosen = select_replies(rows, 1, 0.6, 0.7)
    assert [i.id for i in chosen.items] == ["a2", "b0"]
    assert chosen.dropped == {
        "judge's orders disagree": 1,
        "judge not sure": 1,
        "repeats another": 1,
        "more than wanted": 1,
    }
