"""Reviews: what is drawn, that it is shown blind, what is kept, and figures worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constitute.data.reviews import (
    Item,
    Review,
    add_items,
    add_reviews,
    annotating,
    human_choices,
    import_reviews,
    read_items,
    read_reviews,
    write_reviews,
)
from constitute.errors import DataError, RunMismatch, UsageError
from constitute.review.figures import figures_of
from constitute.review.sample import Drawing, draw_labelled, draw_pairs, prepare
from constitute.review.showing import showings
from constitute.stats import wilson
from constitute.types import Comparison, LabelledPair, Message, PreferenceLabel, PrincipleVote, Prompt


def pair(name: str, p_a: float = 0.8, *votes: tuple[float, float]) -> LabelledPair:
    prompt = Prompt(id=name, messages=(Message(role="user", content=f"Q {name}"),))
    made = tuple(
        PrincipleVote(principle_id=f"p{at}", weight=1, p_ab=ab, p_ba=ba, mass_ab=1, mass_ba=1)
        for at, (ab, ba) in enumerate(votes or ((p_a, p_a),))
    )
    comparison = Comparison(
        id=name, prompt=prompt, a=f"long answer {name}", b=f"b {name}", a_source="revision 1", b_source="x"
    )
    return LabelledPair(id=name, comparison=comparison, label=PreferenceLabel(p_a=p_a, votes=made))


def item(name: str) -> Item:
    return Item(id=name, options=(f"long answer {name}", f"b {name}"))


def chosen(name: str, by: str, choice: str, order: str = "ab", **more) -> Review:
    return Review(item=name, annotator=by, choice=choice, order=order, **more)


def test_samples_rank_by_what_the_labels_say():
    pairs = [
        pair("sure", 0.99),
        pair("near", 0.52),
        pair("flips", 0.7, (0.9, 0.4), (0.8, 0.3), (0.9, 0.9)),
        pair("split", 0.6, (0.9, 0.9), (0.2, 0.2)),
    ]
    ids = {
        name: [one.id for one in draw_labelled(pairs, Drawing(sample=name), 2)]
        for name in ("uncertain", "flips", "disagree")
    }
    assert ids == {"uncertain": ["near", "split"], "flips": ["flips"], "disagree": ["split"]}


def test_a_larger_sample_holds_the_smaller_one_whatever_the_order_of_rows():
    pairs = [pair(f"r{at}") for at in range(40)]
    small = draw_labelled(pairs, Drawing(seed=3), 7)
    assert draw_labelled(pairs[::-1], Drawing(seed=3), 20)[:7] == small
    assert draw_labelled(pairs, Drawing(seed=4), 7) != small


def test_equal_answers_are_not_shown_and_files_have_no_margins():
    twins = pair("twins").comparison.model_copy(update={"b": "long answer twins"})
    assert [one.id for one in draw_pairs([twins, pair("x").comparison], Drawing(), 5)] == ["x"]
    with pytest.raises(UsageError, match="label them first"):
        draw_pairs([], Drawing(sample="flips"), 5)


def test_every_annotator_sees_all_items_in_an_order_of_their_own():
    items = [item(f"r{at}") for at in range(200)]
    ada, bob = showings(items, "ada"), showings(items, "bob")
    assert {one.item.id for one in ada} == {one.item.id for one in bob} == {one.id for one in items}
    assert [one.item.id for one in ada] != [one.item.id for one in bob]
    assert showings(items[::-1], "ada") == ada
    # Which side stands first is a fair coin: within five standard deviations of 100.
    assert abs(sum(one.order == "ab" for one in ada) - 100) < 36
    same = sum(one.order == other.order for one in ada for other in bob if one.item == other.item)
    assert abs(same - 100) < 36


def test_second_showings_reverse_the_options():
    shown = showings([item("x"), item("y"), item("z")], "ada", repeat=2)
    assert [one.again for one in shown] == [False, False, False, True, True]
    assert [one.order for one in shown[3:]] == [one.order[::-1] for one in shown[:2]]
    first = shown[0]
    texts = dict(zip(first.order, first.shown, strict=True))
    assert texts == {"a": first.item.options[0], "b": first.item.options[1]}
    assert first.review("ada", "1", 2.34).choice == first.order[0]
    assert first.review("ada", "=", 1).choice == "tie"
    assert first.review("ada", "s", 1).choice == "skip"


def test_the_last_choice_counts_and_a_torn_line_is_no_choice(tmp_path: Path):
    add_reviews(tmp_path, [chosen("x", "ada", "a"), chosen("y", "ada", "b"), chosen("x", "bob", "b")])
    log = tmp_path / "reviews" / "by-ada.jsonl"
    with log.open("a") as stream:
        stream.write('{"item": "y", "annot')
    assert [one.choice for one in read_reviews(tmp_path)] == ["a", "b", "b"]
    add_reviews(tmp_path, [chosen("x", "ada", "tie")])
    assert [(one.item, one.choice) for one in read_reviews(tmp_path)] == [
        ("x", "tie"),
        ("y", "b"),
        ("x", "b"),
    ]
    assert human_choices(tmp_path) == {"x": 0.25, "y": 0.0}


def test_people_are_the_share_of_annotators_without_skips_and_second_showings(tmp_path: Path):
    add_reviews(
        tmp_path,
        [
            chosen("x", "ada", "a"),
            chosen("x", "ada", "b", again=True),
            chosen("x", "bob", "a"),
            chosen("x", "eve", "b"),
            chosen("y", "ada", "skip"),
        ],
    )
    assert human_choices(tmp_path) == {"x": pytest.approx(2 / 3)}


def test_one_annotator_writes_in_one_process_at_a_time(tmp_path: Path):
    with (
        annotating(tmp_path, "ada"),
        annotating(tmp_path, "bob"),
        pytest.raises(RunMismatch, match="ada is reviewing"),
        annotating(tmp_path, "ada"),
    ):
        raise AssertionError("two processes write as ada")


def test_all_annotators_of_a_run_have_the_same_items(tmp_path: Path):
    def draw(drawing: Drawing, n: int) -> list[Item]:
        return draw_labelled([pair(f"r{at}") for at in range(9)], drawing, n)

    _, first = prepare(tmp_path, Drawing(), 3, draw)
    assert prepare(tmp_path, Drawing(), None, draw)[1] == first
    _, more = prepare(tmp_path, Drawing(), 5, draw)
    assert more[:3] == first and len({one.id for one in more}) == 5
    assert prepare(tmp_path, Drawing(), 2, draw)[1] == more == read_items(tmp_path)
    with pytest.raises(UsageError, match="--sample random --seed 0"):
        prepare(tmp_path, Drawing(sample="flips"), 3, draw)


def test_figures_by_hand():
    items = [item(name) for name in "uvwxyz"]
    # u v w x y z        ada: a a b b tie skip    bob: a b b b b a
    reviews = [
        *(chosen(n, "ada", c, o, seconds=s) for n, c, o, s in [
            ("u", "a", "ab", 1), ("v", "a", "ba", 2), ("w", "b", "ba", 3), ("x", "b", "ab", 4),
            ("y", "tie", "ab", 9), ("z", "skip", "ab", 100)]),
        *(chosen(n, "bob", c) for n, c in zip("uvwxyz", "abbbba", strict=True)),
        chosen("u", "ada", "a", "ba", again=True),
        chosen("v", "ada", "b", "ab", again=True),
    ]  # fmt: skip
    found = figures_of(items, reviews, {"u": 0.9, "v": 0.9, "w": 0.9, "x": 0.1})
    ada, bob = found.annotators
    assert (ada.answered, ada.ties, ada.skipped, ada.seconds) == (5, 1, 1, 3.5)
    assert (ada.first.value, ada.first.n) == (0.5, 4)  # u and w
    assert (ada.longer.value, ada.again.value, bob.longer.value) == (0.5, 0.5, pytest.approx(2 / 6))
    [between] = found.between
    assert (between.same.value, between.same.n) == (pytest.approx(3 / 5), 5)
    # ada: 2 a, 2 b, 1 tie; bob on the same five: 1 a, 4 b; chance (2 * 1 + 2 * 4) / 25.
    assert between.kappa.value == pytest.approx((0.6 - 0.4) / 0.6)
    assert found.alpha.n == 5
    judge = {each.annotator: each.agreement.accuracy for each in found.judge}
    assert (judge["ada"].value, judge["ada"].n) == (0.75, 4)
    assert judge["ada"].low == wilson(3, 4)[0]
    assert (judge["bob"].value, judge["bob"].n) == (0.5, 4)
    # v is undecided between the two.
    assert (judge["people"].value, judge["people"].n) == (pytest.approx(2 / 3), 3)


def test_two_who_always_choose_the_same_have_no_kappa():
    reviews = [chosen(name, by, "a") for name in "xyz" for by in ("ada", "bob")]
    found = figures_of([item(name) for name in "xyz"], reviews)
    assert (found.between[0].same.value, found.between[0].kappa.value, found.alpha.value) == (1.0, None, None)


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_export_then_import_gives_the_same_choices(tmp_path: Path, ending: str):
    reviews = [chosen("x", "ada", "a", "ba", seconds=2.5, note='says "no", twice'), chosen("x", "bob", "tie")]
    path = tmp_path / f"out{ending}"
    assert write_reviews(path, reviews) == 2
    assert import_reviews(path, [item("x")], None) == reviews


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"item": "x", "choice": "1"}, "names no annotator"),
        ({"item": "q", "annotator": "ada", "choice": "1"}, "no item 'q'"),
        ({"item": "x", "annotator": "ada", "choice": "c"}, "give a, b, 1 to 2, tie or skip"),
        ({"item": "x", "annotator": "a/da", "choice": "a"}, "annotator"),
        ({"item": "x", "annotator": "ada", "choice": None}, "the choice None is none"),
    ],
)
def test_bad_rows_of_an_import_are_refused_with_their_line(tmp_path: Path, row: dict, said: str):
    path = tmp_path / "in.jsonl"
    path.write_text(
        json.dumps({"id": "x", "annotator": "ada", "choice": "2"}) + "\n" + json.dumps(row) + "\n"
    )
    with pytest.raises(DataError, match=said) as problem:
        import_reviews(path, [item("x")], None)
    assert "in.jsonl:2" in str(problem.value)


def test_items_are_kept_as_they_are(tmp_path: Path):
    one = Item(id="x", messages=(Message(role="user", content="a\u2028b"),), options=("ü", "b", "c"))
    add_items(tmp_path, [one])
    assert read_items(tmp_path) == [one]
