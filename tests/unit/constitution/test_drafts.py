"""Examples added to a file and marks taken away: comments and layout stay, to the byte where they can."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitute.constitution.drafts import Kept, add_examples, add_examples_to_file, keep_drafts, keep_in_file
from constitute.constitution.read import parse_constitution
from constitute.errors import DataError, UsageError
from constitute.types import Example

DRAFT = Example(prompt="What: now?", better="Good.", worse="Bad.", critique="It is\nbad.", draft=True)
FILE = """\
# On top.
name: mine   # beside
principles:
  # above kind
  - id: kind
    text: Be kind.  # beside the text
    tags: [warm]

  # above brief
  - id: brief
    text: >-
      Be
      brief.
    examples:   # tested
      - prompt: One?
        better: "1"   # the first
        worse: |
          One and
          one.
        draft: true
      # between
      - {prompt: Two?, better: "2", worse: "22", draft: true}
    weight: 2
    draft: true
# the end
"""
BOTH = {"a": [DRAFT], "b": [DRAFT]}
NEW = """\
      - prompt: "What: now?"
        better: Good.
        worse: Bad.
        critique: |-
          It is
          bad.
        draft: true
"""


def test_examples_are_added_and_nothing_else_moves() -> None:
    found = add_examples(FILE.encode(), {"kind": [DRAFT], "brief": [DRAFT]}).decode()
    wanted = FILE.replace("    tags: [warm]\n", "    tags: [warm]\n    examples:\n" + NEW)
    assert found == wanted.replace("    weight: 2", NEW + "    weight: 2")


def test_marks_are_taken_away_and_nothing_else_moves() -> None:
    found, kept = keep_drafts(FILE.encode())
    wanted = FILE.replace("        draft: true\n", "").replace(", draft: true}", "}")
    wanted = wanted.replace("    draft: true\n", "")
    assert (found.decode(), kept) == (wanted, Kept(1, 2))
    assert keep_drafts(found) == (found, Kept(0, 0))
    assert keep_drafts(FILE.encode(), ["kind"]) == (FILE.encode(), Kept(0, 0))


def test_a_mark_with_a_comment_or_at_the_head_becomes_false() -> None:
    text = FILE.replace("    draft: true\n# the end", "    draft: true  # by a model\n# the end")
    found, kept = keep_drafts(text.encode(), ["brief"])
    assert "    draft: false # by a model\n# the end" in found.decode() and kept.principles == 1
    head = "name: n\nprinciples:\n  - draft: true\n    id: a\n    text: T.\n"
    assert keep_drafts(head.encode())[0].decode() == head.replace("true", "false")


def test_an_empty_list_and_one_in_brackets() -> None:
    text = "name: n\nprinciples:\n  - id: a\n    text: T.\n    examples: []  # none yet\n    weight: 2\n"
    found = add_examples(text.encode(), {"a": [DRAFT]})
    (principle,) = parse_constitution(found, "f").principles
    assert principle.examples == (DRAFT,) and b"# none yet" in found and principle.weight == 2
    inline = text.replace("[]  # none yet", "[{prompt: p, better: b, worse: w}]")
    with pytest.raises(DataError, match="the examples of 'a' would stand in brackets"):
        add_examples(inline.encode(), {"a": [DRAFT]})


def test_unknown_ids_and_files(tmp_path) -> None:
    with pytest.raises(UsageError, match="no principle 'kid'; did you mean 'kind'"):
        keep_drafts(FILE.encode(), ["kid"])
    with pytest.raises(UsageError, match="no principle 'x'"):
        add_examples(FILE.encode(), {"x": [DRAFT]})
    path = tmp_path / "c.yaml"
    with pytest.raises(UsageError, match="no such file"):
        keep_in_file(path)
    path.write_text(FILE)
    assert keep_in_file(path) == Kept(1, 2)
    before = path.read_bytes()
    add_examples_to_file(path, {"kind": []})
    assert path.read_bytes() == before
    add_examples_to_file(path, {"kind": [DRAFT]})
    assert keep_in_file(path, ["kind"]) == Kept(0, 1)


_COMMENTS = st.sampled_from(["", "  # c", "  # c: 'd'"])
_LINES = st.sampled_from(["", "\n", "    # own\n", "# far left\n", "\n    # a\n\n"])
_MARKS = st.sampled_from(["true", "false"])
_TEXTS = ["Plain.", "'quoted'", '"double: x"', "|-\n      lit\n      eral", ">\n      fol\n      ded\n"]
# A # within a text may look like a comment, and then a file is refused where only white space would move.
_HASHED = '"double: #"'


@st.composite
def files(draw, texts: list[str]) -> str:
    """Principles in odd layouts, with comments wherever there may be some."""
    lines = ["name: n" + draw(_COMMENTS) + "\nprinciples:" + draw(_COMMENTS) + "\n"]
    for name in ("a", "b"):
        lines.append(f"  - id: {name}{draw(_COMMENTS)}\n{draw(_LINES)}")
        text = draw(st.sampled_from(texts))
        lines.append(f"    text: {text}{'' if text[0] in '|>' else draw(_COMMENTS)}\n{draw(_LINES)}")
        if draw(st.booleans()):
            lines.append(f"    draft: {draw(_MARKS)}{draw(_COMMENTS)}\n{draw(_LINES)}")
        if draw(st.booleans()):
            lines.append(f"    examples:{draw(_COMMENTS)}\n{draw(_LINES)}")
            for n in range(draw(st.integers(1, 2))):
                lines.append(f"      - prompt: p{n}{draw(_COMMENTS)}\n        better: b\n{draw(_LINES)}")
                lines.append(f"        worse: w{draw(_COMMENTS)}\n")
                if draw(st.booleans()):
                    lines.append(f"        draft: true{draw(_COMMENTS)}\n{draw(_LINES)}")
        if draw(st.booleans()):
            lines.append(f"    weight: 2{draw(_COMMENTS)}\n{draw(_LINES)}")
    text = "".join(lines)
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


@settings(max_examples=120, deadline=None)
@given(files([*_TEXTS, _HASHED]))
def test_odd_layouts_are_edited_or_refused_and_never_corrupted(text: str) -> None:
    """Every comment is there as often as before, and the file says what was asked for."""
    before = parse_constitution(text.encode(), "f")
    for keeps in (False, True):
        try:
            found = keep_drafts(text.encode())[0] if keeps else add_examples(text.encode(), BOTH)
        except DataError:
            continue
        after = parse_constitution(found, "f")
        assert [p.text for p in after.principles] == [p.text for p in before.principles]
        assert found.decode().count("# ") >= text.count("# ")


@settings(max_examples=40, deadline=None)
@given(files(_TEXTS))
def test_most_layouts_are_not_refused(text: str) -> None:
    add_examples(text.encode(), BOTH)
    keep_drafts(text.encode())
