"""Broken constitution files: each is an error with file, line, column and a remedy, never a traceback."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constitute.cli.constitution.group import check, constitution
from constitute.cli.constitution.lint import lint as lint_command
from constitute.constitution.edit import set_in_file
from constitute.constitution.read import load_constitution, parse_constitution
from constitute.constitution.show import pick
from constitute.editing.lint.findings import lint
from constitute.errors import DataError, UsageError

GOOD = b"name: x\nprinciples:\n  - id: a\n    text: Be good.\n    tags: [one]\n"


def error(data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        parse_constitution(data, "f.yaml")
    for line in str(caught.value).splitlines():
        assert re.match(r"f\.yaml:\d+:\d+: .+; .+", line), line
    return str(caught.value)


def entry(more: str) -> bytes:
    return f"name: x\nprinciples:\n  - id: a\n    text: Be good.\n    {more}\n".encode()


@pytest.mark.parametrize(
    ("data", "place", "what"),
    [
        (b"", "1:1", "holds nothing"),
        (b"# only a comment\n", "1:1", "holds nothing"),
        (b"just text", "1:1", "the text 'just text'"),
        (b"- a\n- b\n", "1:1", "a list"),
        (GOOD + b"principls: []\n", "6:1", "did you mean 'principles'?"),
        (GOOD + b"zzz: 1\n", "6:1", "unknown key 'zzz'"),
        (GOOD + b"name: y\n", "6:1", "'name' is given twice (first on line 1)"),
        (b"principles: [{id: a, text: b}]\n", "1:1", "'name' is missing"),
        (b"name: x\n", "1:1", "'principles' is missing"),
        (b"name:\nprinciples: [{id: a, text: b}]\n", "1:1", "name is empty"),
        (b"name: 3\nprinciples: [{id: a, text: b}]\n", "1:7", "the number 3"),
        (b"name: x\nprinciples: []\n", "2:13", "an empty list"),
        (b"name: x\nprinciples: {}\n", "2:13", "must be a list"),
        (b"name: x\nprinciples: one\n", "2:13", "must be a list"),
        (b"name: x\nprinciples:\n", "2:1", "must be a list, not nothing"),
        (b"name: x\nprinciples: [text]\n", "2:14", "must be a mapping"),
        (b"name: x\nprinciples:\n  - id: a\n", "3:5", "'text' is missing"),
        (b"name: x\nprinciples:\n  - text: b\n", "3:5", "'id' is missing"),
        (b"name: x\nprinciples:\n  - id: A b\n    text: t\n", "3:9", "write a-b"),
        (b"name: x\nprinciples:\n  - id: '!'\n    text: t\n", "3:9", "choose another"),
        (b"name: x\nprinciples:\n  - id: 7\n    text: t\n", "3:9", "put it in double quotes"),
        (GOOD + b"  - id: a\n    text: c\n", "6:9", "'a' is used twice (first on line 3)"),
        (entry("txt: no"), "5:5", "did you mean 'text'?"),
        (entry("text: again"), "5:5", "given twice (first on line 4)"),
        (entry("critique: ''"), "5:15", "critique is empty"),
        (entry("critique: '  '"), "5:15", "critique is empty"),
        (entry("revise:"), "5:5", "revise is empty"),
        (entry("compare: [a]"), "5:14", "compare must be text"),
        (entry("compare: true"), "5:14", "the truth value true"),
        (entry("weight: heavy"), "5:13", "must be a number"),
        (entry("weight: true"), "5:13", "must be a number"),
        (entry("weight: -1"), "5:13", "0 to 1000"),
        (entry("weight: 1e9"), "5:13", "0 to 1000"),
        (entry("weight: 0"), "3:3", "every weight is 0"),
        (entry("tags: one"), "5:11", "tags must be a list"),
        (entry("tags: [1]"), "5:12", "tags must be text"),
        (entry("tags: ['']"), "5:12", "tags is empty"),
        (entry("source: {a: b}"), "5:13", "source must be text"),
        (entry("probes: [text]"), "5:14", "a probe must be a mapping"),
        (entry("probes: [{prompts: a}]"), "5:15", "did you mean 'prompt'?"),
        (entry("probes: [{expect: a}]"), "5:14", "'prompt' is missing"),
        (entry("examples: {prompt: a}"), "5:15", "examples must be a list"),
        (entry("examples: [text]"), "5:16", "an example must be a mapping with prompt, better and worse"),
        (entry("examples: [{prompt: a, better: b}]"), "5:16", "'worse' is missing"),
        (entry("examples: [{prompt: a, better: b, worst: c}]"), "5:39", "did you mean 'worse'?"),
        (entry("examples: [{prompt: a, better: '', worse: c}]"), "5:36", "better is empty; write it"),
        (entry("examples: [{prompt: a, better: b, worse: ' b'}]"), "5:16", "are the same answer"),
        (entry("? [a]\n    : b"), "5:7", "a key must be text"),
        (entry("1: b"), "5:5", "a key must be text, not the number 1"),
        (entry("<<: {a: b}"), "5:5", "unknown key '<<'"),
        (entry("source: &here x"), "5:13", "anchor &here"),
        (entry("source: *there"), "5:13", "alias *there"),
        (entry("source: !!python/object/apply:os.system ['true']"), "5:13", "tag"),
        (entry("source: !secret x"), "5:13", "tag !secret"),
        (b"%YAML 1.1\n---\n" + GOOD, "2:1", "directives"),
        (GOOD + b"---\nname: y\n", "6:1", "second document"),
        (b"name: x\n\tprinciples: []\n", "2:1", "tab"),
        (b"name: x\nprinciples:\n\t- id: a\n", "3:1", "tab"),
        (b"name: a: b\n", "1:8", "colon"),
        (b"name: 'open\n", "2:1", "not YAML"),
        (b"name: x\nprinciples: [a\n", "3:1", "not YAML"),
        (b"name: x\n principles: [a]\n", "2:12", "colon"),
        (b"\xef\xbb\xbf" + GOOD + b"zzz: 1\n", "6:1", "unknown key"),
        (GOOD.decode().encode("utf-16"), "1:1", "UTF-16"),
        (GOOD.decode().encode("utf-16-be"), "1:1", "U+0000"),
        (b"name: caf\xe9\n", "1:10", "0xe9 is not UTF-8"),
        (b"name: x\nprinciples: \x00\n", "2:13", "U+0000"),
        (b"name: x\nprinciples: \x1b[0m\n", "2:13", "U+001B"),
        (b'name: "a\\0b"\n', "1:7", "U+0000"),
        (b'name: "\\ud800"\n', "1:7", "U+D800"),
        (b'name: "\\U99999999"\n', "1:1", "cannot be read"),
        (b"name: " + b"[" * 21, "1:26", "nested more than 20 deep"),
        (b"a: " * 3, "1:5", "colon"),
        (b"name: &a [x, x]\nb: &b [*a, *a]\n", "1:7", "anchor"),
    ],
)
def test_broken_file(data, place, what):
    message = error(data)
    assert f"f.yaml:{place}: " in message
    assert what in message


KEYS = (
    "id",
    "text",
    "critique",
    "revise",
    "compare",
    "source",
    "weight",
    "tags",
    "priority",
    "draft",
    "probes",
    "examples",
)
TYPES = {
    "a mapping": "{a: b}",
    "a list": "[[c]]",
    "the truth value": "true",
    "the number": "7",
    "empty": "''",
}
FITS = {("weight", "the number"), ("draft", "the truth value")}


def typed() -> list[tuple[str, str, str]]:
    """Every key of a principle with a value of every type it does not take."""
    return [(key, kind, value) for key in KEYS for kind, value in TYPES.items() if (key, kind) not in FITS]


@pytest.mark.parametrize(("key", "kind", "value"), typed())
def test_wrong_type(key, kind, value):
    rows = {"id": "a", "text": "Be good."} | {key: value}
    lines = [f"    {name}: {text}" for name, text in rows.items()]
    data = "name: x\nprinciples:\n  -\n" + "\n".join(lines) + "\n"
    at = 4 + list(rows).index(key)
    assert f"f.yaml:{at}:" in error(data.encode())


@pytest.mark.parametrize("key", ["name", "description"])
@pytest.mark.parametrize("value", ["[a]", "{a: b}", "false", "1.5", "''"])
def test_wrong_type_at_the_top(key, value):
    rows = {"name": "x"} | {key: value}
    data = "".join(f"{name}: {text}\n" for name, text in rows.items()) + "principles: [{id: a, text: b}]\n"
    assert f"f.yaml:{len(rows)}:" in error(data.encode())


BOMB = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("data", "place", "what"),
    [
        (BOMB.encode(), "1:4", "anchor &a"),
        (b"name: !!python/object/apply:os.system ['true']\n", "1:7", "tag"),
        (b"name: !!binary aGk=\nprinciples: [{id: a, text: b}]\n", "1:7", "tag"),
        (b"!!map {name: x, principles: [{id: a, text: b}]}\n", "1:1", "tag"),
        (b"--- !x\n" + GOOD, "1:5", "tag"),
        (GOOD + b"...\n---\n...\n---\n", "7:1", "second document"),
        (b"name: x\nprinciples:\n  - &p {id: a, text: b}\n  - <<: *p\n    id: c\n", "4:9", "alias *p"),
        (entry("weight: .nan"), "5:13", "the text '.nan'"),
        (entry("weight: .inf"), "5:13", "the text '.inf'"),
        (entry("weight: nan"), "5:13", "the text 'nan'"),
        (entry("weight: 1e999"), "5:13", "0 to 1000"),
        (entry("weight: -1e999"), "5:13", "0 to 1000"),
        (entry("weight: 0x10"), "5:13", "the text '0x10'"),
        (entry("weight: 1_000"), "5:13", "the text '1_000'"),
        (entry("weight: yes"), "5:13", "the text 'yes'"),
        (entry(f"weight: {'9' * 5000}"), "5:13", "must be a number"),
        (b"name: x\nprinciples:\n  - id: %s\n    text: b\n" % (b"a" * 65), "3:9", "1-64"),
        (b"name: x\nprinciples:\n  - id: %s\n    text: b\n" % (b"a" * 100_000), "3:9", "1-64"),
        (b"name: x\nprinciples:\n  - id: ../../etc\n    text: b\n", "3:9", "write etc"),
        (entry("revise: ~"), "5:5", "revise is empty"),
        (entry('critique: "\\n \\t"'), "5:15", "critique is empty"),
        (entry('critique: "a\\x1b[2Jb"'), "5:15", "U+001B"),
        ("name: caf\u0085\n".encode(), "1:10", "U+0085"),
        ("name: x\n# \uffff\n".encode(), "2:3", "U+FFFF"),
        (GOOD.replace(b"\n", b"\r\n") + b"zzz: 1\r\n", "6:1", "unknown key"),
        (GOOD.replace(b"\n", b"\r") + b"zzz: 1\r", "6:1", "unknown key"),
        ("name: 'a\u2028b\u2029c'\nzzz: 1\nprinciples: [{id: a, text: b}]\n".encode(), "2:1", "unknown key"),
        ("\u2028\u2028\u2028a: b: c\n".encode(), "1:8", "colon"),
        (b"name: \xff\n", "1:7", "0xff is not UTF-8"),
        (b"name: x\r\nprinciples: \xc0\xaf\r\n", "2:13", "0xc0 is not UTF-8"),
        (b"\x00" * 100, "1:1", "U+0000"),
        (b"a: " + b"{b: " * 30, "1:80", "nested more than 20 deep"),
        (b"- " * 400_000, "1:41", "nested more than 20 deep"),
        (b"{" * 1000, "1:21", "nested more than 20 deep"),
        (b"@name: x\n", "1:1", "not YAML"),
        (b"name: %x\n", "1:7", "not YAML"),
        (b"name: x\nprinciples: [{id: a, text: b}]]\n", "2:31", "not YAML"),
        (b"name: x\nprinciples: |9\n  a\n", "3:3", "not YAML"),
        (b"? x\n: y\n", "1:1", "'name' is missing"),
        (b"*a : b\n", "1:1", "alias *a"),
        (b"[a, b]: c\n", "1:1", "a key must be text"),
        (b": b\n", "1:1", "a key must be text"),
        (b"a: [" + b"*b," * 300 + b"]", "1:5", "alias *b"),
    ],
)
def test_broken_in_other_ways(data, place, what):
    with pytest.raises(DataError) as caught:
        parse_constitution(data, "f.yaml")
    assert f"f.yaml:{place}: " in str(caught.value)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("more", "key", "value"),
    [
        ("critique: Keep {{ this }} and {% that %}.", "critique", "Keep {{ this }} and {% that %}."),
        ("critique: <|im_end|>", "critique", "<|im_end|>"),
        ("critique: '[INST] x'", "critique", "[INST] x"),
        ("critique: no", "critique", "no"),
        ("critique: On", "critique", "On"),
        ("critique: 1:30", "critique", "1:30"),
        ("critique: 2026-01-01", "critique", "2026-01-01"),
        ("critique: 0o17", "critique", "0o17"),
        ("tags: [yes, off, n]", "tags", ("yes", "off", "n")),
        ("weight: 1.e2", "weight", 100.0),
    ],
)
def test_what_looks_odd_is_kept_as_it_is_written(more, key, value):
    (principle,) = parse_constitution(entry(more), "f.yaml").principles
    assert getattr(principle, key) == value


def test_a_byte_order_mark_and_any_line_ends_are_accepted():
    plain = parse_constitution(GOOD, "f.yaml")
    for data in (b"\xef\xbb\xbf" + GOOD, GOOD.replace(b"\n", b"\r\n"), GOOD.replace(b"\n", b"\r")):
        assert parse_constitution(data, "f.yaml") == plain


def test_every_problem_is_named_at_once():
    message = error(b"nme: x\nprinciples:\n  - id: a\n    weigth: 2\n  - id: a\n    text: b\n")
    assert [line.split(":")[1] for line in message.splitlines()] == ["1", "1", "3", "4", "5"]


def test_problems_of_syntax_hide_no_others():
    message = error(b"nme: &a x\nprinciples:\n  - id: a\n    id: c\n    weight: *a\n    text: !t b\n")
    places = [":".join(line.split(":")[1:3]) for line in message.splitlines()]
    assert places == ["1:1", "1:1", "1:6", "4:5", "5:13", "6:11"]


def test_many_problems_are_cut_off_with_their_number():
    data = b"name: x\nprinciples:\n" + b"".join(b"  - id: p%d\n    text: ''\n" % i for i in range(30))
    with pytest.raises(DataError) as caught:
        parse_constitution(data, "f.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "f.yaml: and 10 more"


def test_a_large_file_is_refused(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_bytes(GOOD + b"# " + b"x" * 10_000_000)
    with pytest.raises(DataError, match=r"large\.yaml:1:1: the file is larger than 4,000,000 bytes; split"):
        load_constitution(path)


def test_no_such_file(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        load_constitution(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="no such file"):
        load_constitution(tmp_path)


@pytest.mark.timeout(20)
def test_folders_links_pipes_and_devices_are_refused(tmp_path):
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.yaml")
    for name in (tmp_path, tmp_path / "gone.yaml", tmp_path / "pipe.yaml", "/dev/null"):
        with pytest.raises(UsageError, match="no such file"):
            load_constitution(name)


JUNK = '- |: |? |\n| |\t|\'|"|{|}|[|]|>|&a |*a |!t |%YAML|---\n|...\n|#|,|\\|\x85|é|\\x|"\\u12|>-\n|@|`'
SNIPPETS = st.sampled_from(
    ["name: x\n", "principles:\n", "  - id: a\n", "    text: b\n", "0x1f", "1e999", "9" * 5000, "null"]
) | st.sampled_from(["<<: ", "|", "|9\n", "\u2028", "😀", *JUNK.split("|")])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SNIPPETS, max_size=14).map("".join))
def test_any_text_is_read_or_refused_with_its_place(text):
    try:
        parse_constitution(text.encode(), "f.yaml")
    except DataError as problem:
        for line in str(problem).splitlines():
            assert re.match(r"f\.yaml:\d+:\d+: .+; .+", line), line


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(GOOD)))
def test_any_bytes_are_read_or_refused_with_their_place(junk, at):
    try:
        parse_constitution(GOOD[:at] + junk + GOOD[at:], "f.yaml")
    except DataError as problem:
        assert str(problem).startswith("f.yaml:")


WHOLE = (
    b"name: small\ndescription: Two.\nprinciples:\n  - id: honest  # lint: allow length\n"
    b"    text: Tell the truth.\n    critique: Say what is untrue.\n    compare: Choose the truer reply.\n"
    b"    weight: 2\n    tags: [a, 'b']\n    probes:\n      - prompt: Is it flat?\n        expect: no\n"
    b"    examples:\n      - {prompt: Is it?, better: No, worse: Yes, critique: Untrue}\n"
    b"  - id: kind\n    text: |\n      Be kind.\n"
)
PIECES = st.sampled_from(
    b"|\n|  |\t|: |- |[|]|{|}|'|\"|#|&a |*a |!t |\r\n|\xe2\x80\xa8|\xef\xbb\xbf|\x00|\xff|---\n|<<: |? |%|,|1"
    b"|# lint: allow |weight: 0\n|text: x\n|{{ x }}|\xe2\x80\xae|\\x|~".split(b"|")
)
EDITS = st.lists(
    st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 30), PIECES | st.binary(max_size=3)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EDITS)
def test_any_edit_of_a_file_is_read_or_refused_and_lint_agrees(edits):
    data = WHOLE
    for at, length, piece in edits:
        data = data[:at] + piece + data[at + length :]
    found = lint(data, "f.yaml").findings
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
    for each in found:
        assert 1 <= each.line <= lines and each.column >= 1
        assert each.message and each.fix and "\n" not in each.message + each.fix
    errors = [each for each in found if each.severity == "error"]
    try:
        parse_constitution(data, "f.yaml")
    except DataError as problem:
        said = str(problem).splitlines()
        assert len(said) == len(errors) or (len(said) == 21 and len(errors) > 20)
        for line in said[:20]:
            assert re.match(r"f\.yaml:\d+:\d+: .+; .+", line), line
    else:
        assert not errors


def test_broken_files_are_many_and_distinct():
    tables = [test_broken_file, test_broken_in_other_ways]
    cases = [case[0] for test in tables for case in test.pytestmark[0].args[1]]
    assert len(set(cases)) == len(cases)
    assert len(cases) + len(typed()) >= 140


@pytest.mark.parametrize("command", [lint_command, check], ids=["lint", "check"])
def test_commands_name_place_and_remedy_of_every_broken_file(command, tmp_path):
    path = tmp_path / "f.yaml"
    for test in (test_broken_file, test_broken_in_other_ways):
        for data, place, _ in test.pytestmark[0].args[1]:
            if len(data) > 10_000:
                continue
            path.write_bytes(data)
            done = CliRunner().invoke(command, [str(path)], standalone_mode=False)
            if command is check:
                assert isinstance(done.exception, DataError), data
                said = str(done.exception)
            else:
                assert (done.exception, done.return_value) == (None, 4), data
                said = done.stdout
            assert f"f.yaml:{place}: " in said
            for line in said.splitlines():
                assert re.match(r".*f\.yaml:(\d+:\d+: .+; .+| and \d+ more)", line), line


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("word.md", b"PK\x03\x04 word/document.xml", "this is a Word file"),
        ("pack.yaml", b"PK\x03\x04 rest", "this is a zip file"),
        ("page.html", b"<!DOCTYPE html><html><body>Be kind.</body></html>", r"this is a web page \(HTML\)"),
        ("paper.pdf", b"%PDF-1.7", "this is a PDF"),
        ("rules.md", b"- Be kind.\n- Be brief.\n", "the file holds a list; it needs the keys name and princ"),
    ],
)
def test_a_file_of_another_kind_is_named_and_led_to_import(
    tmp_path: Path, name: str, data: bytes, what: str
) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    for command in ("check", "show"):
        done = CliRunner().invoke(constitution, [command, str(file)])
        said = str(done.exception)
        assert re.search(rf"{name}:1:1: {what}.*`constitute constitution import`", said), said
        assert "control character" not in said and "\n" not in said
    linted = CliRunner().invoke(constitution, ["lint", str(file)])
    assert "constitution import" in linted.output


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    for data in (b"", b" \n\n", b"\xef\xbb\xbf\n"):
        (tmp_path / "empty.md").write_bytes(data)
        done = CliRunner().invoke(constitution, ["import", str(tmp_path / "empty.md")])
        assert str(done.exception).endswith("empty.md: the file is empty; give one that holds principles")


def test_set_mends_a_priority_that_is_no_level(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    start = "name: n\nprinciples:\n  - id: a\n    text: Be kind.\n    priority: %s # mine\n"
    file.write_text(start % "rot" + "  - id: b\n    text: Be brief.\n    priority: usr\n")
    assert set_in_file(file, "a", "priority", "root") == ("rot", "root")
    assert file.read_text().startswith(start % "root")
    with pytest.raises(DataError, match="the priority 'usr' is no level"):
        load_constitution(file)
    kept = file.read_bytes()
    with pytest.raises(UsageError, match="no level 'nobody'; there are root, system, developer, user, guid"):
        set_in_file(file, "b", "priority", "nobody")
    with pytest.raises(DataError, match=r"c\.yaml:8:15: the priority 'usr' is no level"):
        set_in_file(file, "a", "priority", "user")
    with pytest.raises(DataError, match="the priority 'usr' is no level"):
        set_in_file(file, "b", "text", "Be short.")
    assert file.read_bytes() == kept
    assert set_in_file(file, "b", "priority", "user") == ("usr", "user")
    assert [p.priority for p in load_constitution(file).principles] == ["root", "user"]


def test_an_unknown_id_says_how_many_there_are() -> None:
    with pytest.raises(UsageError, match=r"no principle 'nonsense' in .* known are .* and 18 more$"):
        pick(load_constitution("assistant"), ["nonsense"])
