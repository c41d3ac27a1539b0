"""Read rows from a file of any known ending or a Hub data set, each with the place it came from.

To add a kind of file, write a function that takes a path and yields `Row` or `BadLine`, and give it a line in
`READERS`. `--prompts`, `--pairs` and the trainers' `--data` then read it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from constitute.config.data import ReadConfig
from constitute.data.readers.base import Unusable as Unusable
from constitute.data.readers.base import Use
from constitute.data.readers.recognise import LeftOut, pieces, rows_for
from constitute.errors import DataError, UsageError
from constitute.files import (
    COMPRESSIONS,
    LONGEST_LINE,
    BadLine,
    Row,
    json_lines,
    json_object,
    opens_with,
    read_json,
    read_text,
    refuse_binary,
    text_lines,
)
from constitute.text import grouped_reasons

Reader = Callable[[Path], Iterator[Row | BadLine]]
# A file or a Hub data set, `owner/name` or `owner/name:split`; several add up.
Source = str | Path
Sources = Source | Sequence[Source]
_HUB = re.compile(r"[\w.-]+/[\w.-]+(:[\w.\[\]%-]+)?")
_T = TypeVar("_T")
_AS_IT_IS = ReadConfig()


def read_rows(source: Source) -> Iterator[Row | BadLine]:
    """Rows of a file or of a Hub data set; lines that cannot be read come as `BadLine`.

    Raises `UsageError` where there is nothing to read and `DataError` where the file is of another kind.
    """
    path = Path(source)
    if path.is_dir():
        raise UsageError(f"{path} is a directory; give one of the files in it")
    if path.is_file():
        reader = _reader(path)
        if reader is not _parquet_rows:
            refuse_binary(path)
        return reader(path)
    if _HUB.fullmatch(str(source)) and path.suffix not in (*READERS, *COMPRESSIONS):
        return _hub_rows(str(source))
    raise UsageError(
        f"no such file: {source}; give a file ({', '.join(READERS)}) or a Hub data set as owner/name"
    )


def read_records(
    sources: Sources,
    convert: Callable[[Row, str], _T],
    what: str,
    *,
    limit: int | None = None,
    skip_bad: bool = False,
    remedy: str = "mend the line, or count it with --skip-bad",
    use: Use | None = None,
    reading: ReadConfig = _AS_IT_IS,
) -> tuple[list[_T], list[BadLine]]:
    """The first `limit` records that `convert` makes of a row and its file's name, and the unusable lines.

    With a `use`, rows of the public shapes of `readers` are read for it; what their shape leaves out, such as
    ties, stands among the unusable lines as `LeftOut`. Raises `DataError` at the first unusable line unless
    `skip_bad`, and where no record is left.
    """
    kept: list[_T] = []
    bad: list[BadLine] = []
    for row, name in _named_rows(sources, use, reading):
        problem = row if isinstance(row, BadLine) else None
        if isinstance(row, Row):
            try:
                kept.append(convert(row, name))
            except Unusable as unusable:
                problem = BadLine(where=row.where, reason=str(unusable))
        if problem is not None:
            if not (skip_bad or isinstance(problem, LeftOut)):
                raise DataError(f"{problem.where}: {problem.reason}; {remedy}")
            bad.append(problem)
        if limit is not None and len(kept) >= limit:
            break
    if not kept:
        tail = f"; every line is unusable, the first: {bad[0].where}: {bad[0].reason}" if bad else ""
        raise DataError(f"{source_names(sources)} holds no {what}{tail}; give a file with at least one")
    return kept, bad


def notes_on(name: str, unusable: Sequence[BadLine]) -> list[str]:
    """Sentences on what is not used of a file: bad lines with the first, what is left out by reason."""
    left_out = [each for each in unusable if isinstance(each, LeftOut)]
    bad = [each for each in unusable if not isinstance(each, LeftOut)]
    found = [
        f"{name}: left out {rows}: {reason}"
        for _, rows, reason in grouped_reasons((("", each.reason, 1) for each in left_out), None)
    ]
    if bad:
        lines = "1 bad line" if len(bad) == 1 else f"{len(bad)} bad lines"
        found.append(f"{name}: skipped {lines}, the first at {bad[0].where}: {bad[0].reason}")
    return found


def source_list(sources: Sources) -> list[Source]:
    """The files or data sets that were given, one or several."""
    return [sources] if isinstance(sources, str | Path) else list(sources)


def source_names(sources: Sources) -> str:
    """The files or data sets that were given, as words of a message."""
    return ", ".join(map(str, source_list(sources)))


def _named_rows(
    sources: Sources, use: Use | None, reading: ReadConfig
) -> Iterator[tuple[Row | BadLine, str]]:
    for source in source_list(sources):
        name = Path(source).name
        if use is None:
            yield from ((row, name) for row in read_rows(source))
            continue
        for piece in pieces(read_rows(source), reading):
            yield from ((row, name) for row in rows_for(piece, use, reading))


def _reader(path: Path) -> Reader:
    suffix = Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix
    if suffix not in READERS:
        raise UsageError(
            f"{path} has an unknown ending; known are {', '.join(READERS)}, "
            f"text also with {', '.join(COMPRESSIONS)}"
        )
    return READERS[suffix]


def _text_rows(path: Path) -> Iterator[Row | BadLine]:
    """Each line as a prompt."""
    for line in text_lines(path):
        yield line if isinstance(line, BadLine) else Row(line[0], {"prompt": line[1]})


def _json_rows(path: Path) -> Iterator[Row | BadLine]:
    """The items of a JSON array, or the objects of JSON lines."""
    if opens_with(path) != b"[":
        yield from json_lines(path)
        return
    for number, value in enumerate(read_json(path), 1):
        yield json_object(f"{path}: item {number}", value)


def _csv_rows(path: Path) -> Iterator[Row | BadLine]:
    return _table_rows(path, ",")


def _tsv_rows(path: Path) -> Iterator[Row | BadLine]:
    return _table_rows(path, "\t")


def _table_rows(path: Path, delimiter: str) -> Iterator[Row | BadLine]:
    """The lines under a line of column names; an empty cell is a missing value."""
    csv.field_size_limit(LONGEST_LINE)
    table = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    start = 1
    try:
        for cells in table:
            where, start = f"{path}:{start}", table.line_num + 1
            if not cells:
                continue
            if not names:
                names = cells
                if len(set(names)) < len(names):
                    raise DataError(f"{where}: two columns have one name; give each its own")
            elif len(cells) != len(names):
                yield BadLine(where=where, reason=f"{len(cells)} cells under {len(names)} column names")
            else:
                yield Row(where, {name: cell or None for name, cell in zip(names, cells, strict=True)})
    except csv.Error as problem:
        raise DataError(f"{path}:{start}: not readable as a table ({problem}); write it anew") from None


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
    except (pa.ArrowException, UnicodeDecodeError, OSError) as problem:
        reason = str(problem).strip().split("\n")[0]
        raise DataError(
            f"{path}: row {number + 1}: not readable as Parquet ({reason}); write it anew"
        ) from None


READERS: dict[str, Reader] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
    ".txt": _text_rows,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
}


def _hub_rows(source: str) -> Iterator[Row | BadLine]:
    name, _, split = source.partition(":")
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageError(
            f"reading {name} from the Hub needs the package datasets; pip install 'constitute[train]', "
            "or give a file"
        ) from None
    try:
        loaded = load_dataset(name, split=split or "train")
    except (OSError, ValueError, RuntimeError) as problem:
        reason = str(problem).strip().split("\n")[0]
        raise UsageError(
            f"{source} is neither a file nor a data set that can be loaded from the Hub ({reason}); "
            "check the name and the network, or give a file"
        ) from None
    for number, value in enumerate(loaded, 1):
        yield Row(f"{source}: row {number}", value)
