"""Read rows from JSONL, JSON, Parquet, plain text or a Hub data set, each with the place it came from."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from constitute.errors import DataError, UsageError
from constitute.types import Record

SUFFIXES = (".jsonl", ".ndjson", ".json", ".txt", ".parquet")
_HUB = re.compile(r"[\w.-]+/[\w.-]+(:[\w.\[\]%-]+)?")
_T = TypeVar("_T")


class BadLine(Record):
    """An input line that could not be used: where it stands and why."""

    where: str
    reason: str


class Row(NamedTuple):
    """One record of a file and its place, as `file:line`."""

    where: str
    value: dict[str, Any]


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
    if _HUB.fullmatch(str(spec)) and path.suffix not in (*SUFFIXES, ".gz"):
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
    packed = path.suffix == ".gz"
    suffix = Path(path.stem).suffix if packed else path.suffix
    if suffix not in SUFFIXES:
        raise UsageError(f"{path} has an unknown ending; known are {', '.join(SUFFIXES)}, text also with .gz")
    if suffix == ".parquet":
        return _parquet_rows(path)
    if suffix == ".txt":
        return _text_rows(path, packed, text_key)
    if suffix == ".json" and _opens_with(path, packed) == b"[":
        return _array_rows(path, packed)
    return _json_rows(path, packed)


def _open(path: Path, packed: bool) -> IO[bytes]:
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _opens_with(path: Path, packed: bool) -> bytes:
    for _, line in _lines(path, packed):
        if isinstance(line, bytes) and (found := line.removeprefix(b"\xef\xbb\xbf").strip()):
            return found[:1]
    return b""


def _lines(path: Path, packed: bool) -> Iterator[tuple[int, bytes | BadLine]]:
    """Numbered lines, split at `\\n` only: JSON text may hold other line separators."""
    number = 0
    try:
        with _open(path, packed) as stream:
            for number, line in enumerate(stream, 1):
                if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise DataError(f"{path}:1: the file is UTF-16; save it as UTF-8")
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        where = f"{path}:{number + 1}"
        yield number + 1, BadLine(where=where, reason=f"the compressed data is broken or cut off ({problem})")


def _decoded(path: Path, packed: bool) -> Iterator[tuple[str, str, bool] | BadLine]:
    """(place, text, whether a newline ended it) of every line that is not blank."""
    for number, line in _lines(path, packed):
        if isinstance(line, BadLine):
            yield line
            continue
        where = f"{path}:{number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as problem:
            byte = line[problem.start]
            yield BadLine(where=where, reason=f"byte {problem.start + 1} (0x{byte:02x}) is not UTF-8")
            continue
        if text.strip():
            yield where, text.rstrip("\r\n"), text.endswith("\n")


def _text_rows(path: Path, packed: bool, text_key: str) -> Iterator[Row | BadLine]:
    for line in _decoded(path, packed):
        yield line if isinstance(line, BadLine) else Row(line[0], {text_key: line[1]})


def _json_rows(path: Path, packed: bool) -> Iterator[Row | BadLine]:
    for line in _decoded(path, packed):
        if isinstance(line, BadLine):
            yield line
            continue
        where, text, ended = line
        try:
            value = json.loads(text)
        except json.JSONDecodeError as problem:
            torn = "" if ended else "; the file's last line is cut off"
            yield BadLine(where=where, reason=f"not JSON at column {problem.colno} ({problem.msg}){torn}")
            continue
        except (RecursionError, ValueError) as problem:
            yield BadLine(where=where, reason=f"JSON that cannot be read ({problem})")
            continue
        yield _object(where, value)


def _array_rows(path: Path, packed: bool) -> Iterator[Row | BadLine]:
    with _open(path, packed) as stream:
        data = stream.read()
    try:
        values = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as problem:
        raise DataError(f"{path}:{problem.lineno}: not JSON ({problem.msg}); mend it, or use JSONL") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as problem:
        raise DataError(f"{path}: JSON that cannot be read ({problem}); save it as UTF-8 JSONL") from None
    for number, value in enumerate(values, 1):
        yield _object(f"{path}: item {number}", value)


def _object(where: str, value: Any) -> Row | BadLine:
    if isinstance(value, dict):
        return Row(where, value)
    return BadLine(where=where, reason=f"a JSON {type(value).__name__} where an object is needed")


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
