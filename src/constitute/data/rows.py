"""Read rows from files of any known ending or a Hub data set, each with the place it came from.

To add a kind of file, write a function that takes a path and yields `Row` or `BadLine`, and give it a line in
`READERS`. `--prompts`, `--pairs` and the trainers' `--data` then read it.
"""

from __future__ import annotations

import glob
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Generic, TypeVar

from constitute.config.data import ReadConfig
from constitute.data.readers.base import Unusable as Unusable
from constitute.data.readers.base import Unwanted, Use
from constitute.data.readers.recognise import LeftOut, pieces, rows_for
from constitute.data.spans import json_rows, table_rows
from constitute.errors import DataError, UsageError
from constitute.files import (
    COMPRESSIONS,
    BadLine,
    Row,
    atomic,
    json_lines,
    refuse_binary,
    text_lines,
)
from constitute.text import Reasons

Reader = Callable[[Path], Iterator[Row | BadLine]]
# A file, a folder, a glob or a Hub data set (`owner/name:split`, `owner/name:config@split`); several add up.
Source = str | Path
Sources = Source | Sequence[Source]
_HUB = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+@[\w.\[\]%:-]+|:[\w.\[\]%:-]+|@[\w.\[\]%:-]+)?")
# Files beside data that say something about it.
_ABOUT = ("dataset_info.json", "dataset_infos.json", "state.json", "card.json")
_SPLIT = re.compile(r"(?<![a-z])(?:train|test|validation|valid|dev)(?![a-z])", re.IGNORECASE)
_T = TypeVar("_T")
# Bytes of a list of rows left out that stay in memory.
_LISTED = 2**20
# Rows of a Parquet file in memory at once.
_BATCH = 256
_AS_IT_IS = ReadConfig()
LEFT_OUT_FILE = "left_out.jsonl"
_SKIP = "mend the line, or count it with --skip-bad"


def read_rows(source: Source) -> Iterator[Row | BadLine]:
    """Rows of a file, of all files of a folder or a glob, or of a Hub data set, one after the other.

    Lines that cannot be read come as `BadLine`. Raises `UsageError` where there is nothing to read and
    `DataError` where a file is of another kind.
    """
    if (files := files_of(source)) is not None:
        return _file_rows(files[0]) if len(files) == 1 else chain.from_iterable(map(_file_rows, files))
    if _HUB.fullmatch(str(source)) and Path(source).suffix not in (*READERS, *COMPRESSIONS):
        return _hub_rows(str(source))
    raise UsageError(
        f"no such file: {source}; give a file ({', '.join(READERS)}), a folder, a glob, or a Hub data set as "
        "owner/name, owner/name:split or owner/name:config@split"
    )


def files_of(source: Source) -> list[Path] | None:
    """The files that a path, a folder or a glob names, by name; None where it is nothing on this disk.

    Raises `UsageError` for a folder or a glob without data, or with files that do not go together.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        return _of_a_folder(path)
    if not glob.has_magic(str(source)):
        return None
    found = [Path(name) for name in sorted(glob.glob(str(source), recursive=True)) if Path(name).is_file()]
    if not found and _HUB.fullmatch(str(source)):
        # `owner/name:test[:10%]` is a part of a split.
        return None
    if not found:
        raise UsageError(f"no file matches {source}; check the pattern")
    return found


def _of_a_folder(folder: Path) -> list[Path]:
    """All its files. Those of several endings or splits are not one data set, and none is guessed."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.name not in _ABOUT
        and _ending(path) in READERS
        and _ending(path) != ".txt"
    ]
    if not found:
        known = ", ".join(ending for ending in READERS if ending != ".txt")
        raise UsageError(f"{folder} is a directory without files of data ({known}); give a file")
    endings = sorted({_ending(path) for path in found})
    splits = sorted({split[0].lower() for path in found if (split := _SPLIT.search(path.name))})
    for what, several in (("kinds of files", endings), ("splits", splits)):
        if len(several) > 1:
            raise UsageError(
                f"{folder} is a directory with {what} that do not go together: {', '.join(several)}; "
                f"give one of its files, or a glob such as '{folder}/**/*{several[0]}*'"
            )
    return found


def _file_rows(path: Path) -> Iterator[Row | BadLine]:
    reader = _reader(path)
    if reader is not _parquet_rows:
        refuse_binary(path)
    return reader(path)


def read_records(
    sources: Sources,
    convert: Callable[[Row, str], _T],
    what: str,
    *,
    limit: int | None = None,
    skip_bad: bool = False,
    remedy: str = _SKIP,
    use: Use | None = None,
    reading: ReadConfig = _AS_IT_IS,
    refuse: Callable[[Row], str] = lambda row: "",
) -> tuple[list[_T], list[BadLine]]:
    """The first `limit` records that `convert` makes of a row and its file's name, and the unusable lines.

    With a `use`, rows of the public shapes of `readers` are read for it; what their shape leaves out, such as
    ties, stands among the unusable lines as `LeftOut`, as does a row that `refuse` gives a reason for. Raises
    `DataError` at the first unusable line unless `skip_bad`, and where no record is left.
    """
    kept: list[_T] = []
    bad: list[BadLine] = []
    for each in _converted(_named_rows(sources, use, reading), convert, skip_bad, remedy, refuse):
        if isinstance(each, BadLine):
            bad.append(each)
        else:
            kept.append(each)
        if limit is not None and len(kept) >= limit:
            break
    if not kept:
        raise _nothing(sources, what, bad[0] if bad else None)
    return kept, bad


class Records(Generic[_T]):
    """Records as `read_records` gives them, read from their files anew each time one goes through them.

    So they need not fit in memory. They are read once to begin with, which raises what `read_records` does:
    `len` is their number, `notes` are sentences on what is not used. `converting` gives the `convert` of one
    time through.
    """

    def __init__(
        self,
        sources: Sources,
        converting: Callable[[], Callable[[Row, str], _T]],
        what: str,
        *,
        use: Use,
        limit: int | None = None,
        skip_bad: bool = False,
        reading: ReadConfig = _AS_IT_IS,
        refuse: Callable[[Row], str] = lambda row: "",
    ) -> None:
        self._sources, self._converting, self._limit = sources, converting, limit
        self._skip_bad, self._use, self._reading, self._refuse = skip_bad, use, reading, refuse
        self._unused = unused = Unused(source_names(sources))
        self._number = sum(1 for _ in self._read(unused))
        if not self._number:
            raise _nothing(sources, what, unused.first)
        self.notes = unused.notes

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[_T]:
        return self._read(Unused(""))

    def note_left_out(self, folder: Path) -> None:
        """Write `left_out.jsonl`: place and reason of each row that is read and not used."""
        self._unused.write_left_out(folder / LEFT_OUT_FILE)

    def _read(self, unused: Unused) -> Iterator[_T]:
        rows = _named_rows(self._sources, self._use, self._reading)

        def kept() -> Iterator[_T]:
            for each in _converted(rows, self._converting(), self._skip_bad, _SKIP, self._refuse):
                if isinstance(each, BadLine):
                    unused.add(each)
                else:
                    yield each

        return islice(kept(), self._limit)


class Unused:
    """Lines that are not used: bad ones are counted, what is left out is counted by reason and listed."""

    def __init__(self, name: str) -> None:
        self._name, self._bad = name, 0
        # On disk where it is long: nothing limits how much is left out.
        self._list = tempfile.SpooledTemporaryFile(max_size=_LISTED)  # noqa: SIM115
        self._first_bad: BadLine | None = None
        self._left_out = Reasons()
        self.first: BadLine | None = None

    def add(self, line: BadLine) -> None:
        """Count one line."""
        self.first = self.first or line
        if isinstance(line, LeftOut):
            self._left_out.add(line.reason, line.where)
            self._list.write(line.model_dump_json().encode() + b"\n")
        else:
            self._bad += 1
            self._first_bad = self._first_bad or line

    def write_left_out(self, path: Path) -> None:
        """Write what is left out as JSON lines, where anything is."""
        if self._list.tell():
            self._list.seek(0)
            with atomic(path) as stream:
                shutil.copyfileobj(self._list, stream)

    @property
    def notes(self) -> list[str]:
        """Sentences on them: what is left out by reason, bad lines with the first of them."""
        found = [f"{self._name}: left out {rows}: {reason}" for rows, reason, _ in self._left_out.told()]
        if self._first_bad is not None:
            lines = "1 bad line" if self._bad == 1 else f"{self._bad} bad lines"
            first = f"{self._first_bad.where}: {self._first_bad.reason}"
            found.append(f"{self._name}: skipped {lines}, the first at {first}")
        return found


def notes_on(name: str, unusable: Iterable[BadLine]) -> list[str]:
    """The notes of `Unused` on these lines."""
    unused = Unused(name)
    for line in unusable:
        unused.add(line)
    return unused.notes


def _converted(
    rows: Iterable[tuple[Row | BadLine, str]],
    convert: Callable[[Row, str], _T],
    skip_bad: bool,
    remedy: str,
    refuse: Callable[[Row], str],
) -> Iterator[_T | BadLine]:
    """What is made of each row, and each unused line; `DataError` at a bad one unless `skip_bad`."""
    for row, name in rows:
        problem = row if isinstance(row, BadLine) else None
        if isinstance(row, Row) and (reason := refuse(row)):
            problem = LeftOut(where=row.where, reason=reason)
        elif isinstance(row, Row):
            try:
                yield convert(row, name)
            except Unusable as unusable:
                kind = LeftOut if isinstance(unusable, Unwanted) else BadLine
                problem = kind(where=row.where, reason=str(unusable))
        if problem is not None:
            if not (skip_bad or isinstance(problem, LeftOut)):
                raise DataError(f"{problem.where}: {problem.reason}; {remedy}")
            yield problem


def _nothing(sources: Sources, what: str, first: BadLine | None) -> DataError:
    tail = f"; every line is unusable, the first: {first.where}: {first.reason}" if first else ""
    return DataError(f"{source_names(sources)} holds no {what}{tail}; give a file with at least one")


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
    suffix = _ending(path)
    if suffix not in READERS:
        raise UsageError(
            f"{path} has an unknown ending; known are {', '.join(READERS)}, "
            f"text also with {', '.join(COMPRESSIONS)}"
        )
    return READERS[suffix]


def _ending(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


def _text_rows(path: Path) -> Iterator[Row | BadLine]:
    """Each line as a prompt."""
    for line in text_lines(path):
        yield line if isinstance(line, BadLine) else Row(line[0], {"prompt": line[1]})


def _csv_rows(path: Path) -> Iterator[Row | BadLine]:
    return table_rows(path, ",")


def _tsv_rows(path: Path) -> Iterator[Row | BadLine]:
    return table_rows(path, "\t")


def _parquet_rows(path: Path) -> Iterator[Row | BadLine]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(batch_size=_BATCH):
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
    ".json": json_rows,
    ".parquet": _parquet_rows,
    ".txt": _text_rows,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
}


def _hub_rows(source: str) -> Iterator[Row | BadLine]:
    named, _, split = source.partition("@")
    name, _, config = named.partition(":")
    if not split:
        # `owner/name:split` names no configuration.
        config, split = "", config
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageError(
            f"reading {name} from the Hub needs the package datasets; pip install 'constitute[train]', "
            "or give a file"
        ) from None
    try:
        loaded = load_dataset(name, config or None, split=split or "train")
    except (OSError, ValueError, RuntimeError) as problem:
        reason = str(problem).strip().split("\n")[0]
        raise UsageError(
            f"{source} is neither a file nor a data set that can be loaded from the Hub ({reason}); "
            "check the name and the network, or give a file"
        ) from None
    for number, value in enumerate(loaded, 1):
        yield Row(f"{source}: row {number}", value)
