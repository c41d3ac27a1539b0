"""Constitution files: what is read, how it is identified, how principles are drawn."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitute.config import load_config
from constitute.constitution.draw import draw
from constitute.constitution.identity import constitution_hash, principle_hash
from constitute.constitution.read import load_configured, load_constitution, parse_constitution, read_forms
from constitute.errors import UsageError
from constitute.types import Constitution, Example, Principle, Probe

WHOLE = b"""
# a comment
name: small
description: Two principles.
principles:
  - id: honest          # another
    text: Tell the truth.
    critique: Say what is untrue.
    revise: Make it true.
    compare: Choose the truer reply.
    weight: 2
    tags: [honesty, core]
    source: us
    priority: user
    draft: true
    probes:
      - prompt: Is the earth flat?
        expect: no
    examples:
      - prompt: Is the moon made of cheese?
        better: No, of rock.
        worse: Yes, of cheddar.
        critique: It says what is untrue.
      - {prompt: Am I right?, better: No., worse: Yes., draft: true}
  - id: kind
    text: |
      Be {{ kind }} to "people".
"""


def principle(name: str, weight: float = 1.0, text: str = "Be good.") -> Principle:
    return Principle(id=name, text=text, critique="c", revise="r", compare="o", weight=weight)


def made(*principles: Principle) -> Constitution:
    return Constitution(name="made", principles=principles)


def sixteen() -> Constitution:
    return made(*(principle(f"p{i}") for i in range(16)))


def test_every_key_is_read():
    loaded = parse_constitution(WHOLE, "small.yaml")
    honest, kind = loaded.principles
    assert (loaded.name, loaded.description) == ("small", "Two principles.")
    assert honest == Principle(
        id="honest",
        text="Tell the truth.",
        critique="Say what is untrue.",
        revise="Make it true.",
        compare="Choose the truer reply.",
        weight=2.0,
        tags=("honesty", "core"),
        source="us",
        priority="user",
        draft=True,
        probes=(Probe(prompt="Is the earth flat?", expect="no"),),
        examples=(
            Example(
                prompt="Is the moon made of cheese?",
                better="No, of rock.",
                worse="Yes, of cheddar.",
                critique="It says what is untrue.",
            ),
            Example(prompt="Am I right?", better="No.", worse="Yes.", draft=True),
        ),
    )
    assert kind.weight == 1.0


def test_missing_forms_are_filled_and_nothing_in_a_text_is_expanded():
    kind = parse_constitution(WHOLE, "small.yaml").principles[1]
    assert kind.text == 'Be {{ kind }} to "people".'
    assert kind.critique == (
        'Here is a principle for an assistant: Be {{ kind }} to "people".\n'
        "Identify specific ways in which your last reply goes against this principle."
    )
    assert kind.revise.endswith("Rewrite your last reply so that it keeps to this principle.")
    assert kind.compare.endswith("Choose the reply that keeps to this principle more closely.")
    assert "{{ kind }}" in read_forms(kind)["compare"]


def test_a_file_is_found_by_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(WHOLE)
    assert load_constitution(path) == load_constitution(str(path)) == parse_constitution(WHOLE, path)


def test_hash_ignores_order_comments_and_formatting():
    first = parse_constitution(WHOLE, "a")
    other = b"""
{name: other name, principles: [
  {text: 'Be {{ kind }} to "people".', id: kind},
  {id: honest, compare: Choose the truer reply., revise: Make it true., critique: Say what is untrue.,
   text: Tell the truth., tags: [core, honesty], weight: 2.0, priority: user}]}
"""
    assert constitution_hash(parse_constitution(other, "b")) == constitution_hash(first)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"id: kind", b"id: kinder"),
        (b"Be {{ kind }}", b"Be {{kind}}"),
        (b"untrue.", b"false."),
        (b"Make it", b"Get it"),
        (b"truer", b"better"),
        (b"weight: 2", b"weight: 3"),
        (b"[honesty, core]", b"[honesty]"),
        (b"priority: user", b"priority: root"),
    ],
)
def test_hash_follows_everything_that_can_change_an_outcome(old, new):
    assert old in WHOLE
    before, after = (
        constitution_hash(parse_constitution(text, "a")) for text in (WHOLE, WHOLE.replace(old, new))
    )
    assert before != after


def test_examples_are_part_of_no_hash():
    whole = parse_constitution(WHOLE, "small.yaml")
    first = whole.principles[0].model_copy(update={"examples": ()})
    bare = whole.model_copy(update={"principles": (first, whole.principles[1])})
    assert principle_hash(first) == principle_hash(whole.principles[0])
    assert constitution_hash(bare) == constitution_hash(whole)


def test_principle_hash_covers_what_a_model_reads_and_no_more():
    first = principle("a")
    assert principle_hash(first) == principle_hash(first.model_copy(update={"id": "b", "weight": 3.0}))
    for field in ("text", "critique", "revise", "compare"):
        assert principle_hash(first) != principle_hash(first.model_copy(update={field: "other"}))
    swapped = first.model_copy(update={"critique": "r", "revise": "c"})
    assert principle_hash(first) != principle_hash(swapped)


def test_draws_are_fixed_for_good():
    """A changed draw would make every stored run another run: these must never move."""
    assert [draw(sixteen(), "row-1", r).id for r in range(4)] == ["p7", "p0", "p4", "p1"]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 15), st.text(min_size=1), st.lists(st.text(), min_size=1, max_size=5))
def test_editing_a_wording_changes_no_draw(which, wording, rows):
    before = sixteen()
    edited = list(before.principles)
    edited[which] = principle(f"p{which}", text=wording)
    for row in rows:
        for round in range(3):
            assert draw(before, row, round).id == draw(made(*edited), row, round).id


@settings(max_examples=50, deadline=None)
@given(st.randoms(), st.text(), st.integers(0, 9))
def test_order_does_not_matter(random, row, round):
    shuffled = list(sixteen().principles)
    random.shuffle(shuffled)
    assert draw(made(*shuffled), row, round) == draw(sixteen(), row, round)


def test_a_seventeenth_takes_its_share_and_moves_nothing_else():
    before, after = sixteen(), made(*sixteen().principles, principle("p16"))
    n, p = 4000, 1 / 17
    moved = 0
    for i in range(n):
        old, new = draw(before, f"row-{i}", 0).id, draw(after, f"row-{i}", 0).id
        assert new in (old, "p16")
        moved += new != old
    assert abs(moved - n * p) < 4 * math.sqrt(n * p * (1 - p))


def test_frequencies_follow_the_weights():
    weights = {"a": 1.0, "b": 2.0, "c": 0.5, "d": 4.0, "never": 0.0}
    constitution = made(*(principle(name, weight) for name, weight in weights.items()))
    n = 6000
    seen = Counter(draw(constitution, f"row-{i}", i % 3).id for i in range(n))
    assert seen["never"] == 0
    total = sum(weights.values())
    expected = {name: n * weight / total for name, weight in weights.items() if weight}
    chi2 = sum((seen[name] - value) ** 2 / value for name, value in expected.items())
    assert chi2 < 16.27  # chi-square with 3 degrees of freedom, 99.9 %


def test_rounds_are_drawn_independently():
    same = sum(draw(sixteen(), f"row-{i}", 0) == draw(sixteen(), f"row-{i}", 1) for i in range(4000))
    assert abs(same - 250) < 4 * math.sqrt(4000 * (1 / 16) * (15 / 16))


def test_nothing_can_be_drawn_from_weights_of_zero():
    with pytest.raises(ValueError, match="every weight is 0"):
        draw(made(principle("a", 0.0)), "row", 0)


def test_tags_select_principles_and_an_empty_selection_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "name: c\nprinciples:\n"
        "  - {id: a, text: A., tags: [x, y]}\n  - {id: b, text: B., tags: [y]}\n"
        "  - {id: c, text: C.}\n  - {id: d, text: D., tags: [z], weight: 0}\n"
    )
    assert [p.id for p in load_constitution(file, ("x",)).principles] == ["a"]
    assert [p.id for p in load_constitution(file, ("x", "y")).principles] == ["a", "b"]
    assert len(load_constitution(file).principles) == 4
    with pytest.raises(UsageError, match=r"no principle of 'c' has the tag 'w'; its tags are x, y, z"):
        load_constitution(file, ("w",))
    with pytest.raises(UsageError, match=r"the tags z has weight 0"):
        load_constitution(file, ("z",))


def test_the_configured_constitution_has_the_principles_of_its_tags(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: c\nprinciples:\n- {id: a, text: Be good, tags: [x]}\n- {id: b, text: Be brief, tags: [y]}\n"
    )
    config = load_config(None, [f"constitution={path}", "tags=[y]"])
    assert [p.id for p in load_configured(config).principles] == ["b"]
    other = load_config(None, ["tags=[x]"])
    assert [p.id for p in load_configured(other, path).principles] == ["a"]
    with pytest.raises(UsageError, match="no constitution given; name one with --constitution FILE"):
        load_configured(other)
    with pytest.raises(UsageError, match="has the tag 'z'; its tags are x, y"):
        load_configured(load_config(None, ["tags=[z]"]), path)


def test_the_assistant_shows_what_it_means() -> None:
    """Its examples can be shown for critiques, and a taste for length tells none of them from the other."""
    principles = load_constitution("assistant").principles
    assert len(principles) == 28 and all(len(p.examples) >= 2 for p in principles)
    examples = [(p.id, each) for p in principles for each in p.examples]
    assert len(examples) == 61 and all(each.critique for _, each in examples)
    assert sum(len(each.better) > len(each.worse) for _, each in examples) == 30
    for name, each in examples:
        if name != "keep-it-short":
            assert 0.6 <= len(each.better) / len(each.worse) <= 1.6, (name, each.prompt)
