"""Broken constitution files: each is an error with file, line, column and a remedy, never a traceback."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constitute.constitution import load_constitution, parse_constitution
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
        (b"\xef\xbb\xbf" + GOOD, "1:1", "byte-order mark"),
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


def test_every_problem_is_named_at_once():
    message = error(b"nme: x\nprinciples:\n  - id: a\n    weigth: 2\n  - id: a\n    text: b\n")
    assert [line.split(":")[1] for line in message.splitlines()] == ["1", "1", "3", "4", "5"]


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
    with pytest.raises(DataError, match=r"large\.yaml:1:1: the file is larger than 1,000,000 bytes; split"):
        load_constitution(path)


def test_no_such_file(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        load_constitution(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="no such file"):
        load_constitution(tmp_path)


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
