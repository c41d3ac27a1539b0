"""Word-level differences, what differs between two constitutions, and how many rows an edit touches."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest
from scripted import constitution, principle

from constitute.cli.constitution.diff_text import changes_json, changes_text
from constitute.config import LabelConfig
from constitute.constitution.draw import draw
from constitute.constitution.priority import DEFAULT_LEVELS
from constitute.editing.diff.changes import changes_between, kept_draws
from constitute.editing.words import Stretch, ansi, brief, plain, word_diff
from constitute.types import Constitution, Example, Principle, Probe


def of(*principles) -> Constitution:
    return Constitution(name="b", principles=principles)


def test_words_by_hand() -> None:
    runs = word_diff("Which reply does less to help?", "Which reply does far more to help?")
    assert runs == [
        Stretch("kept", "Which reply does "),
        Stretch("gone", "less"),
        Stretch("new", "far more"),
        Stretch("kept", " to help?"),
    ]
    assert plain(runs) == "Which reply does [-less-]{+far more+} to help?"
    assert ansi(runs) == "Which reply does \x1b[9;31mless\x1b[0m\x1b[4;32mfar more\x1b[0m to help?"
    assert word_diff("", "a") == [Stretch("new", "a")] and word_diff("a b", "a b") == [Stretch("kept", "a b")]
    assert word_diff("", "") == []


def test_neighbouring_words_that_change_read_as_one_phrase() -> None:
    assert plain(word_diff("be kind now", "stay very calm now")) == "[-be kind-]{+stay very calm+} now"


def test_both_texts_come_back_out_of_the_runs() -> None:
    rng = random.Random(0)
    for _ in range(300):
        old, new = ("".join(rng.choices(["a", "b", " ", "\n", "don't", "é", ".", "  "], k=9)) for _ in "ab")
        runs = word_diff(old, new)
        assert "".join(run.text for run in runs if run.kind != "new") == old
        assert "".join(run.text for run in runs if run.kind != "gone") == new
        assert all(first.kind != second.kind for first, second in pairwise(runs))


def test_brief_keeps_the_words_around_a_change() -> None:
    before, after = " ".join(f"w{n}" for n in range(9)), " ".join(f"v{n}" for n in range(9))
    runs = brief(word_diff(f"{before} old {after}", f"{before} new {after}"), words=2)
    assert plain(runs) == "… w7 w8 [-old-]{+new+} v0 v1 …"
    inner = brief(word_diff(f"x {before} y", f"z {before} q"), words=1)
    assert plain(inner) == "[-x-]{+z+} w0 … w8 [-y-]{+q+}"
    short = word_diff("a b old c d", "a b new c d")
    assert brief(short, words=8) == short


def test_each_kind_of_change_by_hand() -> None:
    kind, brief_, safe, gone = (principle(name) for name in ("kind", "brief", "safe", "gone"))
    calm = gone.model_copy(update={"id": "calm"})
    b = of(
        safe.model_copy(update={"weight": 2.0, "tags": ("x",)}),
        kind.model_copy(update={"compare": "Which is kinder?", "source": "me"}),
        brief_,
        calm,
        principle("new"),
    )
    changes = changes_between(constitution("kind", "brief", "safe", "gone"), b)
    found = {c.id: (c.kind, c.fields, c.reworded) for c in changes.changes}
    assert found == {
        "safe": ("changed", ("weight", "tags"), ()),
        "kind": ("changed", ("compare", "source"), ("compare",)),
        "calm": ("renamed", (), ()),
        "new": ("added", (), ()),
    }
    assert changes.renamed == {"gone": "calm"}
    assert changes.counts == (4, 5)
    # kind (reworded) and new; calm has the words of gone, and its id is part of a cache key.
    assert changes.anew.label == 2 and changes.anew.same_words == ("calm",)


def test_like_wording_is_a_hint_and_no_match() -> None:
    old = principle("old").model_copy(update={"text": "The assistant must never be rude to a user."})
    new = principle("new").model_copy(update={"text": "The assistant must never be rude to any user."})
    changes = changes_between(of(old, principle("kind")), of(new, principle("kind"), principle("far")))
    assert [(c.id, c.kind, c.near) for c in changes.changes] == [
        ("new", "added", "old"),
        ("far", "added", ""),
        ("old", "removed", "new"),
    ]


def test_order_and_tag_order_are_no_difference() -> None:
    a = of(principle("kind").model_copy(update={"tags": ("x", "y")}), principle("brief"))
    b = of(principle("brief"), principle("kind").model_copy(update={"tags": ("y", "x")}))
    changes = changes_between(a, b)
    assert changes.changes == () and changes.hashes[0] == changes.hashes[1]
    assert changes.anew.model_dump() == {
        "form": "compare",
        "label": 0,
        "same_words": (),
        "redrawn": 0.0,
        "drawn_label": 0.0,
        "drawn_revise": 0.0,
    }


def test_sources_probes_and_examples_touch_no_draw() -> None:
    examples = (Example(prompt="Hello?", better="Hello.", worse="Go."),)
    update = {"source": "me", "probes": (Probe(prompt="Hello?"),), "examples": examples}
    noted = principle("kind").model_copy(update=update)
    changes = changes_between(of(principle("kind")), of(noted))
    assert [c.fields for c in changes.changes] == [("source", "probes", "examples")]
    assert changes.anew.label == 0 and changes.anew.drawn_revise == 0.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1, "c": 1, "d": 1}),
        ({"a": 1, "b": 2, "c": 0.5}, {"a": 2, "b": 2, "c": 0.5}),
        ({"a": 3, "b": 1}, {"b": 1, "c": 2, "d": 0}),
    ],
)
def test_the_share_of_moved_draws_is_that_of_the_real_draw(a: dict[str, float], b: dict[str, float]) -> None:
    first, second = (of(*(principle(name, weight) for name, weight in side.items())) for side in (a, b))
    changes = changes_between(first, second)
    rows = 4000
    moved = sum(draw(first, f"r{n}", 0).id != draw(second, f"r{n}", 0).id for n in range(rows)) / rows
    # Five standard errors of a share over 4000 rows are at most 0.04.
    assert abs(changes.anew.redrawn - moved) < 5 * (max(moved * (1 - moved), 0.01) / rows) ** 0.5


def test_one_reworded_of_four_touches_a_quarter_and_an_added_one_a_fifth() -> None:
    a = constitution("a", "b", "c", "d")
    reworded = principle("a").model_copy(update={"compare": "Other?"})
    changes = changes_between(a, of(reworded, *a.principles[1:]))
    assert changes.anew.drawn_label == pytest.approx(0.25)
    assert (changes.anew.redrawn, changes.anew.drawn_revise) == (0.0, 0.0)
    added = changes_between(a, of(*a.principles, principle("e")))
    assert added.anew.redrawn == pytest.approx(0.2)


@pytest.mark.parametrize("method", ["choice", "reasoned", "likelihood", "yes_no", "rating"])
def test_other_questions_are_those_whose_words_the_method_shows(method: str) -> None:
    """A new text alone is no other question to a method that shows `compare`; nor the other way round."""
    a = constitution("a", "b", "c", "d")
    cfg = LabelConfig(method=method)
    retold, compared = (
        changes_between(a, of(a.principles[0].model_copy(update={key: "Other."}), *a.principles[1:]), cfg)
        for key in ("text", "compare")
    )
    shows_compare = method in ("choice", "reasoned")
    assert (retold.anew.label, compared.anew.label) == ((0, 1) if shows_compare else (1, 0))
    assert retold.anew.drawn_label == pytest.approx(0.0 if shows_compare else 0.25)
    assert compared.anew.drawn_label == pytest.approx(0.25 if shows_compare else 0.0)
    assert retold.anew.drawn_revise == compared.anew.drawn_revise == 0.0
    said = changes_text(retold, False)
    assert f"label questions of {0 if shows_compare else 1} of 4 principles" in said
    assert f"`{'compare' if shows_compare else 'text'}`" in said
    # Its text is part of the key of an answer: a new run asks the very same words once more.
    assert ("the same label questions again under a:" in said) is shows_compare


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("one two", ""),
        ("", "one"),
        ("  lead and\n\ntrail  ", "lead or\n\ntrail"),
        ("a b c", "a x c"),
        ("w " * 4000, "v " * 10),
    ],
)
def test_a_diff_spells_both_texts(before, after):
    runs = word_diff(before, after)
    assert "".join(run.text for run in runs if run.kind != "new") == before
    assert "".join(run.text for run in runs if run.kind != "gone") == after


def test_levels_are_compared_by_their_names_and_by_who_moves() -> None:
    high, low = principle("high").model_copy(update={"priority": "root"}), principle("low")
    a = of(high, low)
    assert changes_between(a, a).levels == (DEFAULT_LEVELS, DEFAULT_LEVELS)
    raised = changes_between(a, of(high, low.model_copy(update={"priority": "system"})))
    assert [(c.id, c.fields) for c in raised.changes] == [("low", ("priority",))]
    assert raised.moved == ("low",) and raised.hashes[0] != raised.hashes[1]
    assert "low: priority none -> system" in changes_text(raised, False)
    assert raised.anew.label == 0 and raised.anew.redrawn == 0.0
    # The levels in another order: no principle differs, and one without a priority stands last in both.
    first = a.model_copy(update={"priorities": ("root", "user")})
    turned = changes_between(first, a.model_copy(update={"priorities": ("user", "root")}))
    assert turned.changes == () and turned.moved == ("high",)
    said = changes_text(turned, False)
    assert "priorities root > user -> user > root\non another level than before: high" in said
    assert changes_json(turned)["levels"] == (("root", "user"), ("user", "root"))


def test_kept_draws_is_the_sum_over_all_pairs_of_principles() -> None:
    rng = random.Random(3)
    sides = []
    for _ in range(2):
        ids = rng.sample(range(60), 45)
        weights = {f"p{n}": rng.choice([0.0, 0.5, 1.0, 1.0, 3.0]) for n in ids}
        sides.append(Constitution(name="n", principles=tuple(_one(n, w) for n, w in weights.items())))
    w, v = ({p.id: p.weight for p in side.principles if p.weight} for side in sides)
    every = w.keys() | v.keys()
    expected = sum(
        1 / sum(max(w.get(j, 0) / w[i], v.get(j, 0) / v[i]) for j in every) for i in w.keys() & v.keys()
    )
    assert kept_draws(*sides, lambda *_: True) == pytest.approx(expected, rel=1e-12)


def _one(name: str, weight: float = 1.0, text: str = "Be good.") -> Principle:
    return Principle(id=name, text=text, critique="c", revise="r", compare="c", weight=weight)


def test_a_diff_of_three_thousand_principles_takes_seconds() -> None:
    """Quadratic, it took 30 s of CPU and more."""
    many = [_one(f"p{n}", 1.0 + n % 7 / 10, f"Rule {n}.") for n in range(3_000)]
    a = Constitution(name="n", principles=tuple(many))
    b = Constitution(name="n", principles=(_one("p0", 9.0, "Rule 0."), *many[1:]))
    begun = time.process_time()
    assert [change.id for change in changes_between(a, b).changes] == ["p0"]
    assert time.process_time() - begun < 5
