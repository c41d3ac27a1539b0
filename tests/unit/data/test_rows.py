"""Rows from files: a registry of readers, tables, and several files that add up."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from registry_examples import add_module, example

from constitute.cli.main import cli
from constitute.data import rows
from constitute.data.pairs import read_pairs, read_preferences
from constitute.data.prompts import read_prompts
from constitute.data.rows import read_rows
from constitute.errors import DataError, UsageError
from constitute.files import BadLine, Row
from constitute.store import Store
from constitute.train.common.data import read_conversations
from constitute.types import Message


def write(tmp_path: Path, *values, name: str = "a.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


@pytest.fixture
def bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a new kind, whose reader has one line in the registry."""
    made = add_module(monkeypatch, "bars", example("A kind of file"))
    monkeypatch.setitem(rows.READERS, ".bars", made.read)
    path = tmp_path / "pairs.bars"
    lines = (
        "id: one | prompt: Q | chosen: yes | rejected: no",
        "id: two | prompt: R | chosen: a | rejected: b",
    )
    path.write_text("\n".join(lines))
    return path


def test_a_new_reader_serves_the_data_stages_and_the_trainers(bars):
    prompts, _ = read_prompts(bars)
    assert [(p.id, p.messages[0].content) for p in prompts] == [("one", "Q"), ("two", "R")]
    assert [(p.a, p.b) for p in read_pairs(bars)[0]] == [("yes", "no"), ("a", "b")]
    assert [p.chosen_prob for p in read_preferences(bars, print)] == [1.0, 1.0]
    assert read_conversations(bars, "last")[1].turns[-1] == Message(role="assistant", content="a")
    packed = bars.with_name("pairs.bars.gz")
    packed.write_bytes(gzip.compress(bars.read_bytes()))
    assert len(read_prompts([bars.rename(bars.with_name("b.bars")), packed], skip_bad=True)[0]) == 2
    bars.write_text("prompt: Q\nnothing")
    with pytest.raises(DataError, match=r"pairs\.bars:2: a part without a colon"):
        read_prompts(bars)


def test_a_new_reader_serves_generate(bars, tmp_path):
    run = tmp_path / "run"
    words = ["generate", "--run", str(run), "--model", "any", "--set", "engine.kind=fake"]
    done = CliRunner().invoke(cli, [*words, "--prompts", str(bars)], standalone_mode=False)
    assert (done.exception, done.return_value) == (None, 0), done.output
    with Store.open(run, readonly=True) as store:
        assert store.row_ids() == ["one/0", "two/0"]


def test_tables(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(
        '\ufeffid,prompt,weight\r\n1,"Say ""hi"",\n\nplease: é",2\r\n\r\n2,Q,\r\n3,short\r\n'.encode()
    )
    first, second, bad = read_rows(path)
    assert first == Row(f"{path}:2", {"id": "1", "prompt": 'Say "hi",\n\nplease: é', "weight": "2"})
    assert second == Row(f"{path}:6", {"id": "2", "prompt": "Q", "weight": None})
    assert bad == BadLine(where=f"{path}:7", reason="2 cells under 3 column names")
    packed = tmp_path / "t.tsv.gz"
    packed.write_bytes(gzip.compress(b"prompt\tid\na, b\tone\n"))
    assert [row.value for row in read_rows(packed)] == [{"prompt": "a, b", "id": "one"}]
    path.write_text('prompt\n"never ended')
    with pytest.raises(DataError, match=r"t\.csv:2: not readable as a table"):
        list(read_rows(path))
    path.write_text("a,a\n1,2\n")
    with pytest.raises(DataError, match=r"t\.csv:1: two columns have one name"):
        list(read_rows(path))


def test_numbers_of_a_table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("prompt,chosen,rejected,chosen_prob,weight\n1,2,3,0.75,\n1,2,4,,3\n")
    first, second = read_preferences(path, lambda text: None)
    assert (first.prompt[0].content, first.chosen, first.rejected) == ("1", "2", "3")
    assert [(p.chosen_prob, p.weight) for p in (first, second)] == [(0.75, 1.0), (1.0, 3.0)]
    path.write_text("prompt,chosen,rejected,chosen_prob\nQ,a,b,high\n")
    with pytest.raises(DataError, match=r"t\.csv:2: chosen_prob must be a number from 0 to 1, not 'high'"):
        read_preferences(path, print)


def test_several_files_add_up(tmp_path):
    one = write(tmp_path, {"prompt": "Q"}, {"prompt": "R"}, name="one.jsonl")
    two = write(tmp_path, {"prompt": "Q"}, {"prompt": "S"}, name="two.jsonl")
    prompts, _ = read_prompts([one, two])
    assert [p.messages[0].content for p in prompts] == ["Q", "R", "Q", "S"]
    assert [p.source for p in prompts] == ["one.jsonl"] * 2 + ["two.jsonl"] * 2
    assert prompts[2].id == f"{prompts[0].id}-2"
    assert len(read_prompts([one, two], limit=3)[0]) == 3
    named = write(tmp_path, {"prompt": "T", "id": "x"}, name="three.jsonl")
    with pytest.raises(DataError, match=r"'x' is used before, at .*three\.jsonl:1"):
        read_prompts([named, named])
    empty = write(tmp_path, name="empty.jsonl")
    assert len(read_prompts([one, empty])[0]) == 2
    with pytest.raises(DataError, match=r"empty\.jsonl, .*empty\.jsonl holds no prompts"):
        read_prompts([empty, empty])


def test_what_is_no_file_of_a_known_kind(tmp_path):
    with pytest.raises(UsageError, match="is a directory"):
        read_rows(tmp_path)
    for name in ("none.jsonl", "/no/where.jsonl", "none"):
        with pytest.raises(UsageError, match="no such file"):
            read_rows(name)
    (tmp_path / "a.doc").touch()
    with pytest.raises(UsageError, match=r"unknown ending; known are \.jsonl, .*\.csv"):
        read_rows(tmp_path / "a.doc")


def test_label_adds_up_the_files_of_a_repeated_option(tmp_path):
    row = {"prompt": "Q", "a": "yes", "b": "no"}
    one, two = write(tmp_path, row, name="one.jsonl"), write(tmp_path, row, row, name="two.jsonl")
    run = tmp_path / "run"
    words = ["label", "--run", str(run), "--model", "any", "--set", "engine.kind=fake"]
    words += ["--constitution", "pocket/harmless", "--pairs", str(one), "--pairs", str(two)]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None, done.output
    with Store.open(run, readonly=True) as store:
        assert sum(store.counts("label").values()) == 3
