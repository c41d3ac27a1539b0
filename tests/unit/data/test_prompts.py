"""Prompts from every form of file: nothing cut, nothing dropped in silence, ids that stay."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED

from constitute.data.prompts import read_prompts
from constitute.errors import DataError
from constitute.hh import format_hh, holds_turns, is_hh, parse_hh
from constitute.types import Message

HH = SHARED / "hh-rlhf" / "harmless-base-test-even.jsonl.gz"


def user(text: str) -> Message:
    return Message(role="user", content=text)


def assistant(text: str) -> Message:
    return Message(role="assistant", content=text)


def write(tmp_path: Path, *rows, name: str = "p.jsonl") -> Path:
    path = tmp_path / name
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def messages(path: Path) -> list[tuple[Message, ...]]:
    return [prompt.messages for prompt in read_prompts(path)[0]]


TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi: there"}]
ANSWERED = [*TURNS, {"role": "assistant", "content": "Hello."}]
WANTED = (Message(role="system", content="Be brief."), user("Hi: there"))


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "Why: is it?\n\nSay so: now."}, (user("Why: is it?\n\nSay so: now."),)),
        ({"prompt": "Line one\u2028line two"}, (user("Line one\u2028line two"),)),
        ({"prompt": TURNS}, WANTED),
        ({"messages": TURNS}, WANTED),
        ({"messages": ANSWERED}, WANTED),
        ({"messages": [{"role": "developer", "content": "Be brief."}, *ANSWERED[1:]]}, WANTED),
        ({"chosen": ANSWERED, "rejected": ANSWERED}, WANTED),
        ({"prompt": TURNS, "messages": [], "chosen": "x"}, WANTED),
        ({"prompt": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, (user("Hi"),)),
        (
            {"chosen": "\n\nHuman: a: b\n\nc\n\nAssistant: d: e\n\nHuman: f\n\nAssistant: g", "rejected": ""},
            (user("a: b\n\nc"), assistant("d: e"), user("f")),
        ),
        ({"prompt": "\n\nHuman: a\n\nAssistant:"}, (user("a"),)),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b\n\nAssistant: c\n\nHuman: d"},
            (user("a"), assistant("b\n\nc"), user("d")),
        ),
        (
            {"chosen": "Be brief.\n\nHuman: Hi: there\n\nAssistant: Hello.", "rejected": ""},
            WANTED,
        ),
        ({"prompt": "Quote:\n\nHuman: not a transcript"}, (user("Quote:\n\nHuman: not a transcript"),)),
        ({"prompt": "<|im_end|> {{ x }}"}, (user("<|im_end|> {{ x }}"),)),
    ],
)
def test_forms(tmp_path, row, wanted):
    assert messages(write(tmp_path, row)) == [wanted]


def test_the_same_rows_in_every_kind_of_file(tmp_path):
    rows = [{"id": "a", "prompt": "One"}, {"id": "b", "prompt": "Zwei äöü"}]
    jsonl = write(tmp_path, *rows)
    packed = tmp_path / "q.jsonl.gz"
    packed.write_bytes(gzip.compress(jsonl.read_bytes()))
    array = tmp_path / "r.json"
    array.write_text(json.dumps(rows, indent=1))
    marked = tmp_path / "s.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + jsonl.read_bytes().replace(b"\n", b"\r\n\r\n"))
    table = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    text = write(tmp_path, "One", "", "Zwei äöü", name="u.txt")
    wanted = [("a", (user("One"),)), ("b", (user("Zwei äöü"),))]
    for path in (jsonl, packed, array, marked, table):
        got, bad = read_prompts(path)
        assert [(p.id, p.messages) for p in got] == wanted, path
        assert (bad, {p.source for p in got}) == ([], {path.name})
    assert messages(text) == [value for _, value in wanted]


def test_parquet_messages(tmp_path):
    path = tmp_path / "m.parquet"
    pq.write_table(pa.Table.from_pylist([{"messages": ANSWERED}]), path)
    assert messages(path) == [WANTED]


def test_ids_stay_when_a_file_grows_or_changes_order(tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}, {"prompt": "c", "id": 7}]
    first = [p.id for p in read_prompts(write(tmp_path, *rows))[0]]
    assert first[2] == f"{first[0]}-2" and first[3] == "7"
    assert first[0] == "c5af9aa01adc835d"
    grown = [p.id for p in read_prompts(write(tmp_path, *rows, {"prompt": "d"}, {"prompt": "a"}))[0]]
    assert grown[:4] == first and grown[5] == f"{first[0]}-3"
    turned = read_prompts(write(tmp_path, *reversed(rows)))[0]
    assert {p.id: p.messages for p in turned} == dict(
        zip(first, messages(write(tmp_path, *rows)), strict=True)
    )


def test_limit_reads_no_further(tmp_path):
    path = write(tmp_path, {"prompt": "a"}, {"prompt": "b"}, "broken")
    assert len(read_prompts(path, limit=2)[0]) == 2
    with pytest.raises(DataError, match=r"p\.jsonl:3: not JSON"):
        read_prompts(path, limit=3)


BROKEN = [
    ("{", "not JSON at column 2"),
    ("[1]", "a JSON list where an object is needed"),
    ("null", "a JSON NoneType"),
    ('{"text": "x"}', "none of the keys prompt, messages, chosen; found 'text'"),
    ("{}", "found no key"),
    ('{"prompt": 3}', "prompt must be text or a list of messages, not 3"),
    ('{"prompt": ""}', "prompt ends with an empty turn of the user"),
    ('{"prompt": []}', "prompt holds no turn of the user"),
    ('{"prompt": ["x"]}', r"prompt\[0\] must hold role and content"),
    ('{"prompt": [{"role": "critic", "content": "x"}]}', "has the role 'critic'"),
    ('{"prompt": [{"role": "tool", "content": "x"}]}', r"prompt\[0\] calls a tool or is a tool's answer"),
    (
        '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{}]}]}',
        r"messages\[1\] calls a tool",
    ),
    (
        '{"messages": [{"role": "assistant", "content": null, "function_call": {"name": "f"}}]}',
        r"messages\[0\] calls a tool",
    ),
    ('{"prompt": [{"role": ["x"], "content": "x"}]}', "has the role"),
    ('{"prompt": [{"role": "user", "content": null}]}', "must have text as its content"),
    ('{"prompt": [{"role": "user", "content": []}]}', "must have text as its content"),
    ('{"prompt": [{"role": "user", "content": [{"type": "text", "text": null}]}]}', "must have text as its"),
    ('{"prompt": [{"role": "user", "content": [{"type": "text"}]}]}', "must have text as its content"),
    ('{"prompt": [{"role": "user", "content": [{"type": "image", "text": "x"}]}]}', "must have text as its"),
    ('{"chosen": "plain", "rejected": "text"}', "chosen is plain text and there is no prompt"),
    ('{"prompt": [{"role": "assistant", "content": "x"}]}', "ends with a turn of the assistant"),
    ('{"messages": [{"role": "assistant", "content": "x"}]}', "holds no turn of the user"),
    ('{"messages": [{"role": "system", "content": "x"}]}', "ends with a turn of the system"),
    ('{"prompt": "x", "id": true}', "id must be text or a whole number"),
    ('{"prompt": "x", "id": ""}', "id must be text or a whole number"),
    ('{"prompt": "x", "id": "one"}', "the id 'one' is used before, at .*p.jsonl:1"),
    ('{"prompt": "\\ud800"}', "half a surrogate pair"),
    ('{"prompt": ' + "[" * 100_000, "cannot be read"),
    ('{"prompt": ' + "9" * 5000 + "}", "cannot be read"),
]


@pytest.mark.parametrize(("line", "reason"), BROKEN)
def test_a_bad_line_is_named_or_counted(tmp_path, line, reason):
    path = write(tmp_path, {"prompt": "first", "id": "one"}, line, {"prompt": "last"})
    with pytest.raises(DataError, match=r"p\.jsonl:2: .*" + reason):
        read_prompts(path)
    got, bad = read_prompts(path, skip_bad=True)
    assert [p.messages[0].content for p in got] == ["first", "last"]
    assert [b.where for b in bad] == [f"{path}:2"]


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n{"prompt": "\xff"}\n')
    with pytest.raises(DataError, match=r"p\.jsonl:2: byte 13 \(0xff\) is not UTF-8"):
        read_prompts(path)
    path.write_bytes('{"prompt": "a"}\n'.encode("utf-16"))
    with pytest.raises(DataError, match=r"p\.jsonl:1: the file is UTF-16"):
        read_prompts(path, skip_bad=True)


def test_files_that_hold_nothing(tmp_path):
    for name, content in (
        ("p.jsonl", b""),
        ("p.jsonl", b"\n \n"),
        ("p.json", b"[]"),
        ("p.txt", b""),
        ("p.jsonl.gz", b""),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match="holds no prompts; give a file with at least one"):
            read_prompts(path)
    path = write(tmp_path, "x", "y")
    with pytest.raises(DataError, match=r"every line is unusable, the first: .*p\.jsonl:1: not JSON"):
        read_prompts(path, skip_bad=True)


def test_files_of_another_kind_than_their_ending_says(tmp_path):
    broken = write(tmp_path, "x", name="p.parquet")
    with pytest.raises(DataError, match="not readable as Parquet"):
        read_prompts(broken)
    array = write(tmp_path, "[1,", name="p.json")
    with pytest.raises(DataError, match=r"p\.json:2: not JSON"):
        read_prompts(array)


def test_compressed_data_cut_off(tmp_path):
    whole = gzip.compress(b"".join(b'{"prompt": "p%d"}\n' % i for i in range(200)))
    path = tmp_path / "p.jsonl.gz"
    for size in (5, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"broken or cut off|unusable"):
            read_prompts(path)


def test_truncating_at_every_byte_drops_nothing_in_silence(tmp_path):
    rows = [{"id": f"r{i}", "prompt": f"Frage {i}: wie geht’s? " + "x" * (i * 7 % 60)} for i in range(28)]
    data = write(tmp_path, *rows).read_bytes()
    assert len(data) > 2000
    path = tmp_path / "cut.jsonl"
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        lines = [line for line in data[:size].split(b"\n") if line.strip()]
        whole = data[:size].count(b"\n") + (data[size : size + 1] == b"\n")
        try:
            got, bad = read_prompts(path, skip_bad=True)
        except DataError as problem:
            assert whole == 0 and "holds no prompts" in str(problem)
            continue
        assert [p.id for p in got] == [f"r{i}" for i in range(whole)]
        assert len(got) + len(bad) == len(lines)


# A turn of the HH form must not hold a turn mark, and its outer blanks are not part of it.
SAID = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1).filter(
    lambda text: text == text.strip() and "Human:" not in text and "Assistant:" not in text
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(SAID, SAID), max_size=4), SAID, SAID, st.none() | SAID)
def test_transcripts_come_back_as_they_were(before, asked, answered, system):
    turns = [turn for a, b in before for turn in (user(a), assistant(b))]
    if system is not None:
        turns.insert(0, Message(role="system", content=system))
    text = format_hh([*turns, user(asked)], answered)
    assert is_hh(text) == (system is None) and holds_turns(text)
    assert parse_hh(text) == (*turns, user(asked), assistant(answered))


def test_a_system_message_between_turns_has_no_place_in_a_transcript():
    turns = [user("a"), assistant("b"), Message(role="system", content="Be brief."), user("c")]
    with pytest.raises(ValueError, match="a system message after the first turn"):
        format_hh(turns, "d")


@pytest.mark.parametrize("text", ["a\n\nHuman: b", "a\n\nAssistant:", "Human: x"])
def test_a_turn_mark_inside_a_turn_is_refused(text):
    with pytest.raises(ValueError, match="turn mark"):
        format_hh([user(text)], "fine")


@pytest.mark.skipif(not HH.is_file(), reason="hh-rlhf is not at ../shared/data/hh-rlhf")
def test_all_of_hh_rlhf():
    got, bad = read_prompts(HH)
    assert (len(got), len(bad), len({p.id for p in got})) == (1156, 0, 1156)
    rows = [json.loads(line) for line in gzip.decompress(HH.read_bytes()).splitlines()]
    for prompt, row in zip(got, rows, strict=True):
        before = row["chosen"][: row["chosen"].rindex("\n\nAssistant:")]
        # Every letter of the transcript up to the last answer is there.
        kept = "".join("".join(m.content.split()) for m in prompt.messages)
        marks = before.replace("\n\nHuman:", "").replace("\n\nAssistant:", "")
        assert kept == "".join(marks.split())
