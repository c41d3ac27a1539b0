"""Files that are gone through without being held: the records that are read at once, in little memory."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from constitute.data.inspect import inspect
from constitute.data.pairs import open_pairs, read_pairs
from constitute.data.prompts import open_prompts, read_prompts
from constitute.data.records import Unused, notes_on
from constitute.data.rows import read_rows
from constitute.errors import DataError
from constitute.files import BadLine, Row
from constitute.store.spill import SpilledMap

SMALL, LARGE = 400, 1600


def pairs(number: int) -> Iterator[dict[str, str]]:
    for at in range(number):
        texts = (f"Question {at}? " * 40, f"Yes, do {at}. " * 200, f"No, not {at}. " * 200)
        yield dict(zip(("prompt", "chosen", "rejected"), texts, strict=True))


def write(path: Path, number: int) -> Path:
    """A file of pairs of the kind that its ending says."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, ("prompt", "chosen", "rejected"))
            table.writeheader()
            table.writerows(pairs(number))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(pairs(number))), path, row_group_size=100)
    else:
        packed = "zstd" if path.suffix == ".zst" else None
        with pa.output_stream(str(path), compression=packed) as stream:
            for row in pairs(number):
                stream.write(json.dumps(row).encode() + b"\n")
    return path


def count(source: Path, read: Callable[..., Any]) -> None:
    assert sum(1 for _ in read(source)) in (SMALL, LARGE)


READ: dict[str, Callable[[Path], Any]] = {
    "pairs": lambda path: count(path, open_pairs),
    "prompts": lambda path: count(path, open_prompts),
    "inspect": inspect,
}


@pytest.mark.parametrize(
    ("what", "name"),
    [
        *(("pairs", name) for name in ("p.jsonl", "p.jsonl.zst", "p.csv", "p.parquet")),
        ("prompts", "p.jsonl"),
        ("inspect", "p.jsonl"),
    ],
)
def test_a_longer_file_takes_no_more_memory(what: str, name: str, tmp_path: Path) -> None:
    peaks, read = {}, READ[what]
    read(write(tmp_path / name, LARGE))  # what is imported, and pydantic's cache of short texts
    for number in (SMALL, LARGE):
        path = write(tmp_path / name, number)
        tracemalloc.start()
        read(path)
        peaks[number] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # The 1200 more rows have 7 MB of text; a table is read in pieces of 1 MB.
    assert peaks[LARGE] < peaks[SMALL] + 2 * 10**6


def test_they_are_the_records_that_are_read_at_once_however_often(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": text} for text in ("a", "b", "a", "a")] + [{"id": "b2", "prompt": "c"}, {"prompt": 3}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    at_once, bad = read_prompts(path, skip_bad=True)
    found = open_prompts(path, skip_bad=True)
    assert len(found) == 5 and list(found) == at_once == list(found)
    assert found.notes == notes_on(str(path), bad) and "skipped 1 bad line, the first at" in found.notes[0]
    assert [prompt.id[16:] for prompt in at_once] == ["", "", "-2", "-3", ""]
    limited = open_prompts(path, limit=2)
    assert (len(limited), list(limited)) == (2, at_once[:2])
    with pytest.raises(DataError, match=r"rows.jsonl:6: prompt must be text .*; mend the line"):
        open_prompts(path)
    path.write_text('{"a": 1}\n')
    with pytest.raises(DataError, match=r"holds no pairs; every line is unusable, the first: .*rows.jsonl:1"):
        open_pairs(path, skip_bad=True)
    write(path, 3)
    assert list(open_pairs(path)) == read_pairs(path)[0]


def test_equal_prompts_are_numbered_without_trying_every_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "same.txt"
    path.write_text("Again?\n" * 500)
    tried = 0
    add = SpilledMap.add

    def counted(self: SpilledMap, name: str, value: str = "") -> bool:
        nonlocal tried
        tried += 1
        return add(self, name, value)

    monkeypatch.setattr(SpilledMap, "add", counted)
    ids = [prompt.id for prompt in read_prompts(path)[0]]
    assert ids[:3] == [ids[0], f"{ids[0]}-2", f"{ids[0]}-3"] and ids[-1] == f"{ids[0]}-500"
    assert tried == 999


def test_what_is_not_used_is_counted_in_bounded_memory() -> None:
    unused = Unused("f")
    for at in range(5000):
        unused.add(BadLine(where=f"f:{at}", reason=f"no {'x' * at}"))
    assert unused.notes == ["f: skipped 5000 bad lines, the first at f:0: no "]


def test_a_row_of_each_kind_of_file_is_the_same(tmp_path: Path) -> None:
    found = [
        [row.value for row in read_rows(write(tmp_path / name, 4)) if isinstance(row, Row)]
        for name in ("p.jsonl", "p.jsonl.zst", "p.csv", "p.parquet")
    ]
    assert found[0] == found[1] == found[2] == found[3] == list(pairs(4))
