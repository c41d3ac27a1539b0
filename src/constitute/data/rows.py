"""Read rows from JSONL, JSON, Parquet, plain text or a Hub data set, each with the place it came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from constitute.errors import DataError, UsageError
from constitute.files import (
    COMPRESSIONS,
    BadLine,
    Row,
    json_lines,
    json_object,
    opens_with,
    read_json,
    text_lines,
)

SUFFIXES = (".jsonl", ".ndjson", ".json", ".txt", ".parquet")
_HUB = re.compile(r"[\w.-]+/[\w.-]+(:[\w.\[\]%-]+)?")
_T = TypeVar("_T")


class Unusable(ValueError):
    """A row that holds no usable record; the message is the reason."""


def read_rows(spec: str | Path, text_key: str) -> Iterator[Row | BadLine]:
    """Rows of a file, or of a Hub data set given as `owner/name` or `owner/name:split`.

    A line of a .txt file becomes `{text_key: line}`. Lines that cannot be read come as `BadLine`.
    Raises `UsageError` where there is nothing to read and `DataError` where the file is of another kind.
    """
    path = Path(spec)
    if path.is_dir():
        raise UsageError(f"{path} is a directory; give one of the files in it")
    if path.is_file():
        return _file_rows(path, text_key)
    if _HUB.fullmatch(str(spec)) and path.suffix not in (*SUFFIXES, *COMPRESSIONS):
        return _hub_rows(str(spec))
    raise UsageError(f"no such file: {spec}; give a file ({', '.join(SUFFIXES)}) or a Hub name as owner/name")


def collect(
    rows: Iterable[Row | BadLine],
    convert: Callable[[Row], _T],
    *,
    spec: str | Path,
    what: str,
    limit: int | None,
    skip_bad: bool,
) -> tuple[list[_T], list[BadLine]]:
    """The first `limit` records that `convert` makes of `rows`, and the lines it could not use.

    Raises `DataError` at the first unusable line unless `skip_bad`, and where nothing usable is left.
    """
    kept: list[_T] = []
    bad: list[BadLine] = []
    for row in rows:
        problem = row if isinstance(row, BadLine) else None
        if isinstance(row, Row):
            try:
                kept.append(convert(row))
            except Unusable as unusable:
                problem = BadLine(where=row.where, reason=str(unusable))
        if problem is not None:
            if not skip_bad:
                raise DataError(
                    f"{problem.where}: {problem.reason}; mend the line, or count it with --skip-bad"
                )
            bad.append(problem)
        if limit is not None and len(kept) >= limit:
            break
    if not kept:
        tail = f"; every line is unusable, the first: {bad[0].where}: {bad[0].reason}" if bad else ""
        raise DataError(f"{spec} holds no {what}{tail}; give a file with at least one")
    return kept, bad


def _file_rows(path: Path, text_key: str) -> Iterator[Row | BadLine]:
    suffix = Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{path} has an unknown ending; known are {', '.join(SUFFIXES)}, "
            f"text also with {', '.join(COMPRESSIONS)}"
        )
    if suffix == ".parquet":
        return _parquet_rows(path)
    if suffix == ".txt":
        return _text_rows(path, text_key)
    if suffix == ".json" and opens_with(path) == b"[":
        return _array_rows(path)
    return json_lines(path)


def _text_rows(path: Path, text_key: str) -> Iterator[Row | BadLine]:
    for line in text_lines(path):
        yield line if isinstance(line, BadLine) else Row(line[0], {text_key: line[1]})


def _array_rows(path: Path) -> Iterator[Row | BadLine]:
    for number, value in enumerate(read_json(path), 1):
        yield json_object(f"{path}: item {number}", value)


def _parquet_rows(path: Path) -> Iterator[Row | BadLine]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(batch_size=1000):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}: row {number}", value)
    except (pa.ArrowException, UnicodeDecodeError) as problem:
        reason = str(problem).strip().split("\n")[0]
        raise DataError(
            f"{path}: row {number + 1}: not readable as Parquet ({reason}); write it anew"
        ) from None


def _hub_rows(spec: str) -> Iterator[Row | BadLine]:
    name, _, split = spec.partition(":")
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageError(
            f"reading {name} from the Hub needs the package datasets; pip install 'constitute[train]', "
            "or give a file"
        ) from None
    try:
        loaded = load_dataset(name, split=split or "train")
    except (OSError, ValueError) as problem:
        reason = str(problem).strip().split("\n")[0]
        raise UsageError(
            f"{spec} is neither a file nor a data set that can be loaded from the Hub ({reason}); "
            "check the name and the network, or give a file"
        ) from None
    for number, value in enumerate(loaded, 1):
        yield Row(f"{spec}: row {number}", value)
