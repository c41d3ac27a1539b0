"""Edits of constitution YAML: the change asked for, and comments, order and layout as they were."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from constitute import strict_yaml
from constitute.cli.constitution.group import set_
from constitute.constitution import read as reader
from constitute.constitution.edit import KEYS, append, append_to_file, set_in_file, set_name, set_value
from constitute.constitution.new import GivenWording, from_aims, from_scratch
from constitute.constitution.read import (
    FORMS,
    fill_form,
    load_constitution,
    parse_constitution,
    read_constitution,
)
from constitute.errors import DataError, UsageError
from constitute.packaged import find, packaged_files
from constitute.types import Principle

# One principle in each style that YAML has, with a comment wherever a comment may stand.
STYLES = b"""# first line
name: styles # after the name
# between the keys
principles: # after the list's key
  # above the first
  - id: plain # after the id
    # above the text
    text: Be plain # after the text
    # below the text
    weight: 2 # after the weight
  - id: literal
    text: |- # after the header
      Be
        literal. # part of the text

      Truly.
    # below the block
    compare: >
      Folded over
      two lines.

  # above the third
  - text: "Be \\"quoted\\"
      twice." # after the double quote
    critique: 'It''s
      single.' # after the single quote
    id: quoted

  - {id: inline, text: Be inline, weight: 3} # after the brace
  - id: below
    text:
      Be on the line
      below. # after it
# the last line, without an end"""


# The same with each text that has neither | nor > on one line, as an edit leaves it.
TIDY = (
    STYLES.replace(b'quoted\\"\n      twice', b'quoted\\" twice')
    .replace(b"It''s\n      single", b"It''s single")
    .replace(b"text:\n      Be on the line\n      below.", b"text: Be on the line below.")
)


def field(data: bytes, identity: str, key: str) -> object:
    return getattr(next(p for p in parse_constitution(data, "f").principles if p.id == identity), key)


def test_one_value_is_replaced_and_the_rest_stays():
    assert set_value(TIDY, "plain", "text", "Be kind: now") == TIDY.replace(b"Be plain", b'"Be kind: now"')
    assert set_value(TIDY, "plain", "weight", "0.50") == TIDY.replace(b"weight: 2", b"weight: 0.5")
    assert set_value(TIDY, "inline", "text", "a, b} c") == TIDY.replace(b"Be inline", b'"a, b} c"')
    assert set_value(TIDY, "below", "text", "Up") == TIDY.replace(b"Be on the line below.", b"Up")
    assert set_value(TIDY, "literal", "text", "Short.") == TIDY.replace(
        b"|- # after the header\n      Be\n        literal. # part of the text\n\n      Truly.",
        b"Short. # after the header",
    )
    assert set_value(TIDY, "quoted", "critique", "Two\nlines.") == TIDY.replace(
        b"'It''s single.' # after the single quote",
        b"|- # after the single quote\n      Two\n      lines.",
    )


def test_an_absent_value_is_inserted_below_what_stands_before_it():
    assert set_value(TIDY, "plain", "revise", "Mend it.") == TIDY.replace(
        b"# after the text\n", b"# after the text\n    revise: Mend it.\n"
    )
    assert set_value(TIDY, "literal", "critique", "Find it.") == TIDY.replace(
        b"Truly.\n", b"Truly.\n    critique: Find it.\n"
    )
    assert set_value(TIDY, "inline", "compare", "Which?") == TIDY.replace(
        b"Be inline,", b'Be inline, compare: "Which?",'
    )
    unended = b"name: n\nprinciples:\n- id: a\n  text: b"
    assert set_value(unended, "a", "weight", "7") == unended + b"\n  weight: 7"


def test_an_odd_layout_stays_odd():
    assert set_value(STYLES, "plain", "weight", "3") == STYLES.replace(b"weight: 2", b"weight: 3")
    assert set_value(STYLES, "below", "text", "Up") == STYLES.replace(b"Be on the line\n      below.", b"Up")


def test_a_form_that_is_not_written_follows_the_text():
    edited = set_value(STYLES, "plain", "text", "Be kind.")
    assert field(edited, "plain", "compare") == fill_form("compare", "Be kind.")
    assert field(set_value(STYLES, "quoted", "text", "Be kind."), "quoted", "critique") == "It's single."


def sprinkled() -> bytes:
    """harmless.yaml with a numbered comment above every line and after every plain value."""
    lines = find("pocket/harmless", "constitutions", ".yaml").read_text().splitlines()
    out = []
    for number, line in enumerate(lines):
        out += [f"# above {number}", line if line.startswith("#") else f"{line} # after {number}"]
    return "\n".join(out).encode() + b"\n"


COMMENT = re.compile(rb"# (?:above|after) \d+")
VALUE = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff")
    | st.sampled_from("\n -:#'\"{}[]|>&*!%@`,?😀"),
    min_size=1,
    max_size=80,
).filter(lambda text: text.strip() == text)


@settings(max_examples=25, deadline=None)
@given(st.data(), VALUE, st.sampled_from(("text", *FORMS)), st.booleans())
def test_any_text_can_be_set_anywhere_in_any_style(data, value, key, windows):
    source = STYLES.replace(b"\n", b"\r\n") if windows else STYLES
    identity = data.draw(st.sampled_from(["plain", "literal", "quoted", "inline", "below"]))
    edited = set_value(source, identity, key, value)
    assert field(edited, identity, key) == value
    assert all(
        part in edited
        for part in re.findall(rb"# (?:first|after|above|below|between|the last)[^\r\n]*", source)
    ), edited
    assert (b"\r\n" in edited) == windows and len(re.findall(rb"(?<!\r)\n", edited)) == (
        0 if windows else edited.count(b"\n")
    )


def test_comments_everywhere_in_a_packaged_file_survive():
    source = sprinkled()
    ids = [p.id for p in parse_constitution(source, "f").principles]
    for at, key in ((0, "compare"), (len(ids) // 2, "text"), (len(ids) - 1, "weight")):
        value = "4" if key == "weight" else "A new: one\nof two lines."
        edited = set_value(source, ids[at], key, value)
        assert COMMENT.findall(edited) == COMMENT.findall(source)
        before, after = source.split(b"\n"), edited.split(b"\n")
        gone = [line for line in before if line not in set(after)]
        assert len(gone) == (0 if key == "weight" else 1)
        assert str(field(edited, ids[at], key)) == ("4.0" if key == "weight" else value)


@pytest.mark.parametrize(
    "path", sorted(packaged_files("constitutions", ".yaml").values()), ids=lambda path: path.stem
)
def test_a_packaged_file_comes_back_byte_for_byte(path):
    data = path.read_bytes()
    assert set_name(data, parse_constitution(data, path).name) == data


def test_what_new_writes_comes_back_byte_for_byte():
    aims = [
        GivenWording("Be kind to: animals."),
        GivenWording("Be brief.", critique="Two\nlines.", failed="no answer"),
    ]
    for text in (from_scratch("mine"), from_aims("mine", aims)):
        assert set_name(text.encode(), "mine") == text.encode()


@pytest.mark.parametrize(
    "source",
    [
        b"---\nname: n\nprinciples:\n- id: a\n  text: b\n...\n",
        b"# top\n---\nname: n\nprinciples:\n- id: a\n  text: b # beside\n",
        b"name: n\nprinciples:\n-   id: a\n    text: b\n    probes:\n    - prompt: p # one\n      # two\n",
        b"name: n\nprinciples:\n  -\n    # inside\n    id: a\n    text: b\n    tags: [x, # one\n      y]\n",
        b"{name: n, # one\nprinciples: [{id: a, # two\n text: b}]} # three\n",
        b"name: n\nprinciples:\n- id: a\n  text: # above the text\n    b\n",
        b"name: n\nprinciples:\n- id: a\n  text: 'b\n\n    c' # beside\n# below\n",
        b"? name # one\n: n # two\nprinciples:\n- id: a\n  text: b\n",
    ],
)
def test_an_odd_layout_is_edited_with_every_comment_or_refused(source):
    for edit in (lambda: set_value(source, "a", "text", "c"), lambda: set_value(source, "a", "weight", "2")):
        try:
            edited = edit()
        except DataError as refusal:
            assert "edit it by hand" in str(refusal)
            continue
        assert parse_constitution(edited, "f").principles[0].id == "a"
        assert re.findall(rb"#[^\n]*", edited) == re.findall(rb"#[^\n]*", source)


def test_a_byte_order_mark_and_a_name():
    assert set_name(b"\xef\xbb\xbf" + TIDY, "new one") == b"\xef\xbb\xbf" + TIDY.replace(
        b"name: styles", b"name: new one"
    )


@pytest.mark.parametrize(
    ("identity", "key", "value", "what"),
    [
        ("plane", "text", "x", "no principle 'plane'; did you mean 'plain'"),
        ("zzz", "text", "x", "no principle 'zzz'; there are plain, literal, quoted, inline, below"),
        ("plain", "txt", "x", "no key 'txt'; did you mean 'text'"),
        ("plain", "id", "x", "there are text, critique, revise, compare, opposite, weight"),
        ("plain", "text", " \n", "text would be empty"),
        ("plain", "text", "a\x07", r"control character U\+0007"),
        ("plain", "weight", "much", "weight must be a number from 0 to 1000, not 'much'"),
        ("plain", "weight", "nan", "weight must be a number"),
        ("plain", "weight", "-1", "weight must be a number"),
        ("plain", "weight", "true", "weight must be a number"),
        ("plain", "priority", "rot", "no level 'rot'; did you mean 'root'"),
        ("plain", "priority", " ", "priority would be empty"),
    ],
)
def test_refusals(identity, key, value, what):
    with pytest.raises(UsageError, match=what):
        set_value(STYLES, identity, key, value)


def test_the_last_weight_cannot_become_zero():
    with pytest.raises(DataError):
        set_value(b"name: n\nprinciples:\n- id: a\n  text: b\n", "a", "weight", "0")


def principle(identity: str, text: str, **more: object) -> Principle:
    return Principle(id=identity, text=text, **({f: fill_form(f, text) for f in FORMS} | more))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("tail", [b"", b"\n", b"\n\n# more\n"])
def test_append_keeps_every_byte_and_renames_and_skips(end, tail):
    source = (TIDY + tail).replace(b"\n", end)
    new = [
        principle("plain", "A # new: one", weight=2.0),
        principle("other", "Be inline"),
        principle("again", "A # new: one"),
    ]
    edited, added, skipped = append(source, new)
    assert (added, skipped) == (1, 2)
    assert edited.startswith(source.rstrip())
    assert (b"\r\n" in edited) == (end == b"\r\n")
    loaded = parse_constitution(edited, "f").principles
    assert [p.id for p in loaded][-2:] == ["below", "plain-2"]
    assert loaded[-1] == new[0].model_copy(update={"id": "plain-2"})
    assert append(edited, new) == (edited, 0, 3)


def test_append_above_a_later_key_and_beside_the_margin():
    source = b"principles: # list\n- id: a\n  text: |+\n    b\n\n# about the name\nname: n # end\n"
    edited, added, _ = append(source, [principle("c", "Two\n\nlines.")])
    assert added == 1
    assert edited == (
        b"principles: # list\n- id: a\n  text: |+\n    b\n\n- id: c\n  text: |-\n    Two\n\n    lines."
        b"\n\n# about the name\nname: n # end\n"
    )
    with pytest.raises(DataError, match="inline in brackets"):
        append(b"name: n\nprinciples: [{id: a, text: b}]\n", [principle("c", "d")])


def test_set_command(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(TIDY)
    done = CliRunner().invoke(set_, [str(path), "plain", "text", "Be very plain"])
    assert done.exit_code == 0, done.output
    assert done.stdout == "plain text: Be {+very +}plain\n"
    assert path.read_bytes() == TIDY.replace(b"Be plain", b"Be very plain")
    same = CliRunner().invoke(set_, [str(path), "plain", "text", "Be very plain"])
    assert same.exit_code == 0 and same.stdout == "" and "already" in same.stderr
    kept = path.read_bytes()
    bad = CliRunner().invoke(set_, [str(path), "plain", "wait", "3"])
    assert isinstance(bad.exception, UsageError) and path.read_bytes() == kept
    fresh = CliRunner().invoke(set_, [str(path), "plain", "weight", "5"])
    assert fresh.stdout == "plain weight: [-2-]{+5+}\n"


def test_every_key_can_be_set_in_a_packaged_file():
    data = find("pocket/harmless", "constitutions", ".yaml").read_bytes()
    first = load_constitution("pocket/harmless").principles[0].id
    for key in KEYS:
        value = "user" if key == "priority" else "3"
        edited = set_value(data, first, key, value)
        assert field(edited, first, key) == (3.0 if key == "weight" else value)


def test_a_priority_is_set_below_the_weight_and_must_be_a_level_of_the_file():
    edited = set_value(TIDY, "plain", "priority", "root")
    assert field(edited, "plain", "priority") == "root"
    assert re.search(rb"weight: 2[^\n]*\n    priority: root\n", edited)
    assert set_value(edited, "plain", "priority", "user") == edited.replace(
        b"priority: root", b"priority: user"
    )
    own = b"name: n\npriorities: [must, 'no']\nprinciples:\n- id: a\n  text: b\n"
    assert set_value(own, "a", "priority", "no") == own + b'  priority: "no"\n'
    with pytest.raises(UsageError, match="no level 'root'; there are must, no"):
        set_value(own, "a", "priority", "root")


VALUES = (
    *("Be {n}", "'Be {n}'", '"Be {n}: ☂"', "Be {n}\n      and kind", '"Be {n}\n\n      and\tkind"'),
    *(
        "|-  #@ header\n      Be {n}\n\n        # no comment",
        "|2\n      Be {n}\n       more",
        "|+\n      Be {n}\n\n",
    ),
    *(">\n        Be {n}\n      #@ under\n", ">-\n      Be {n}\n      folded\n"),
)
SHOWN = (
    "examples: #@ list\n     - prompt: p #@\n       better: |\n         b #b\n       #@ in\n       worse: w"
)
EXTRAS = (
    *(
        "weight: 2",
        "draft: true",
        "priority: root",
        "tags: [a,  b]",
        "tags:\n    - a #@ tag\n    -  b",
        SHOWN,
    ),
    *("source: 'x''y'", "probes: [{prompt: p,   expect: e}]"),
)


@st.composite
def odd_files(draw):
    """A file of one principle a style, comments `#@ …` wherever one may stand, and odd blanks."""
    comment = st.sampled_from(["", " #@ c", "  #@ ☂ c:", "\t#@ tab"])
    rows = [f"name: n{draw(comment)}", "principles:"]
    for n in range(draw(st.integers(1, 3))):
        if draw(st.integers(0, 4)) == 0:
            rows.append(f"  - {{id: p{n},   text: 'Be {n}', draft: true}}{draw(comment)}")
            continue
        value = draw(st.sampled_from(VALUES)).format(n=n)
        rows.append(f"  - id: p{n}{draw(comment)}")
        beside = "" if value[0] in "|>" else draw(comment)
        keys = [f"text:  {value}{beside}"]
        keys += draw(st.lists(st.sampled_from(EXTRAS), max_size=3, unique_by=lambda row: row.split(":")[0]))
        for key in draw(st.permutations(keys)):
            rows += [f"    {key}", *draw(st.sampled_from([[], [""], ["    #@ below"], ["#@ margin", ""]]))]
    text = "\n".join(rows) + draw(st.sampled_from(["", "\n", "\n\n#@ last", "\n...\n"]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.replace("\n", end).encode()


@settings(max_examples=300, deadline=None)
@given(odd_files(), st.data(), VALUE, st.sampled_from(("text", *FORMS, "weight")))
def test_any_odd_file_is_edited_in_one_place_or_refused(source, data, value, key):
    before, _, problems = read_constitution(source)
    assume(before is not None and not problems)
    chosen = data.draw(st.sampled_from(before.principles))
    value = "7" if key == "weight" else value
    edited = set_value(source, chosen.id, key, value)
    after = parse_constitution(edited, "f")
    assert field(edited, chosen.id, key) == (7.0 if key == "weight" else value)
    others = [[p for p in c.principles if p.id != chosen.id] for c in (before, after)]
    assert others[0] == others[1]
    mark = re.compile(rb"#@[^\r\n]*")
    assert mark.findall(edited) == mark.findall(source)
    # What differs is one stretch, and of the file it takes no more than the value.
    begin = _shared(source, edited)
    back = _shared(source[begin:][::-1], edited[begin:][::-1])
    gone = source[begin : len(source) - back]
    assert b"id:" not in gone and (key == "text" or len(gone) <= 1), (gone, edited)


def _shared(a: bytes, b: bytes) -> int:
    """How many bytes both begin with."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_a_new_text_names_the_forms_that_still_say_the_old_thing(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    forms = {"critique": "Old critique?", "revise": "Old revision.", "compare": "Old question?"}
    for written, said in (
        ((), ""),
        (("compare",), "compare is written out and still says the old thing: set it too, or remove it"),
        (
            ("critique", "revise", "compare"),
            "critique, revise and compare are written out and still say the old thing: set them too, or "
            "remove them to have them filled from the text",
        ),
    ):
        lines = "".join(f"    {form}: {forms[form]}\n" for form in written)
        path.write_text(f"name: n\nprinciples:\n  - id: kind\n    text: Old.\n{lines}")
        done = CliRunner().invoke(set_, [str(path), "kind", "text", "New."])
        assert done.exit_code == 0 and "[-Old-]{+New+}." in done.stdout
        assert done.stderr.startswith(said) and bool(done.stderr) is bool(written)
        quiet = CliRunner().invoke(set_, [str(path), "kind", "weight", "2"])
        assert "written out" not in quiet.output


def test_set_reads_the_file_once_and_what_it_wrote_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading is nearly all that an edit of a large file takes."""
    path = tmp_path / "f.yaml"
    path.write_bytes(TIDY)
    read: list[bytes] = []
    real = strict_yaml.read_yaml
    monkeypatch.setattr(reader, "read_yaml", lambda data, **more: read.append(data) or real(data, **more))
    assert set_in_file(path, "plain", "weight", "3") == ("2", "3")
    assert read == [TIDY, path.read_bytes()]
    read.clear()
    before = path.read_bytes()
    new = load_constitution("pocket/concise").principles[:1]
    read.clear()
    assert append_to_file(path, new) == (1, 0)
    assert read == [before, path.read_bytes()]
