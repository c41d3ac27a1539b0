"""Where rows come from: folders, globs, compressed files, arrays and tables read piece by piece, the Hub."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from constitute import files
from constitute.data.prompts import read_prompts
from constitute.data.rows import files_of, read_rows
from constitute.data.spans import json_rows, table_rows
from constitute.errors import DataError, UsageError
from constitute.files import BadLine, Row
from constitute.train.common.data import data_hash


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}
LINES = b'{"prompt": "one"}\n{"prompt": "zwei \xc3\xa4"}\n'


def test_every_compression_has_a_packer() -> None:
    assert set(PACKERS) == set(files.COMPRESSIONS)


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_files(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"p.jsonl{ending}"
    path.write_bytes(PACKERS[ending](LINES))
    assert [p.messages[0].content for p in read_prompts(path)[0]] == ["one", "zwei ä"]
    path.write_bytes(PACKERS[ending](LINES * 5000)[:-40])
    assert isinstance(list(read_rows(path))[-1], BadLine)
    array = tmp_path / f"p.json{ending}"
    array.write_bytes(PACKERS[ending](b'[{"prompt": "one"}, {"prompt": "two"}]'))
    assert len(read_prompts(array)[0]) == 2


def test_a_folder_and_a_glob_are_their_files_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    for name, text in (("b.jsonl", "two"), ("a.jsonl.gz", "one"), ("sub/c.jsonl", "three")):
        data = json.dumps({"prompt": text}).encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    (folder / "README.md").write_text("no data")
    (folder / ".hidden.jsonl").write_text("no data")
    (folder / "LICENSE.txt").write_text("no data")

    def read(source: Path | str) -> list[str]:
        return [p.messages[0].content for p in read_prompts(source)[0]]

    assert read(folder) == ["one", "two", "three"]
    assert read(f"{folder}/*.jsonl*") == ["one", "two"]
    assert read(f"{folder}/**/*.jsonl") == ["two", "three"]
    one = data_hash(folder)
    assert one == data_hash([folder / "a.jsonl.gz", folder / "b.jsonl", folder / "sub/c.jsonl"])
    (folder / "b.jsonl").write_text('{"prompt": "new"}')
    assert data_hash(folder) != one and data_hash(f"{folder}/b*") == data_hash(folder / "b.jsonl")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["train.jsonl", "test.jsonl"], "is a directory with splits that do not go together: test, train"),
        (["a.jsonl", "b.csv"], r"kinds of files that do not go together: \.csv, \.jsonl"),
        (["notes.txt"], "is a directory without files of data"),
    ],
)
def test_a_folder_of_several_things_is_not_guessed(tmp_path: Path, names: list[str], reason: str) -> None:
    for name in names:
        (tmp_path / name).write_text('{"prompt": "x"}')
    with pytest.raises(UsageError, match=reason):
        read_rows(tmp_path)


def test_shards_of_one_split_are_one_data_set(tmp_path: Path) -> None:
    names = ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    for name in names:
        (tmp_path / name).write_text('{"prompt": "x"}')
    assert [path.name for path in files_of(tmp_path) or []] == names
    with pytest.raises(UsageError, match="no file matches"):
        read_rows(f"{tmp_path}/*.parquet")


@pytest.mark.parametrize("size", [1, 7, 64, 2**20])
def test_arrays_and_tables_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    whole = files.text_chunks
    monkeypatch.setattr("constitute.data.spans.text_chunks", lambda path: whole(path, size))
    values: list[Any] = [{"a": 'ä\\"],{'}, {"b": [1, {"c": None}]}, {"n": 12.5}, 345]
    path = tmp_path / "a.json"
    for indent in (None, 1):
        path.write_text("\ufeff" + json.dumps(values, indent=indent), encoding="utf-8")
        assert [row.value for row in json_rows(path) if isinstance(row, Row)] == values[:3]
        last = list(json_rows(path))[-1]
        assert last == BadLine(where=f"{path}: item 4", reason="a JSON int where an object is needed")
    table = tmp_path / "t.csv"
    table.write_bytes('id,text\r\n1,"a ""b"",\r\nä"\r\n2,c'.encode())
    found = list(table_rows(table, ","))
    assert found == [
        Row(f"{table}:2", {"id": "1", "text": 'a "b",\r\nä'}),
        Row(f"{table}:4", {"id": "2", "text": "c"}),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"a": 1}\n{"b": 2}]', r"a\.json:2: not JSON \(Expecting ',' delimiter\)"),
        ('[{"a": 1},\n\n{"b" 2}]', r"a\.json:3: not JSON \(Expecting ':' delimiter\)"),
        ('[{"a": 1},]', "not JSON"),
        ('[{"a": 1},\n', r"a\.json:2: not JSON \(the array does not end\)"),
        ('[{"a": 1}] 5', "not JSON"),
        ('[{"a": "x', "not JSON"),
    ],
)
def test_a_broken_array_is_named_by_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        list(json_rows(path))
    path.write_bytes(b'[{"a":\n "\xff"}]')
    with pytest.raises(DataError, match=r"a\.json:2: byte 0xff is not UTF-8"):
        list(json_rows(path))


def test_an_empty_array_has_no_rows_and_one_object_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[ ]")
    assert list(json_rows(path)) == []
    path.write_text('{\n "Definition": "Add.",\n "Instances": [{"input": "1", "output": "1"}]\n}\n')
    assert [p.messages[0].content for p in read_prompts(path)[0]] == ["Add.\n\n1"]
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    assert len(read_prompts(path)[0]) == 2


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("own/set", ("own/set", None, "train")),
        ("own/set:test", ("own/set", None, "test")),
        ("own/set:test[:10%]", ("own/set", None, "test[:10%]")),
        ("own/set@test", ("own/set", None, "test")),
        ("own/set:helpful-base@test", ("own/set", "helpful-base", "test")),
    ],
)
def test_hub_names_hold_a_configuration_and_a_split(
    monkeypatch: pytest.MonkeyPatch, source: str, asked: tuple[str, str | None, str]
) -> None:
    calls = []
    fake = ModuleType("datasets")

    def load_dataset(name: str, config: str | None, *, split: str) -> list[dict[str, str]]:
        calls.append((name, config, split))
        return [{"prompt": "Q"}]

    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert [row.value for row in read_rows(source) if isinstance(row, Row)] == [{"prompt": "Q"}]
    assert calls == [asked]
