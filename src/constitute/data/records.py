"""Records of rows: what a use makes of each row of some files, what is not used, and why."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from constitute.config.data import ReadConfig
from constitute.data.overlap import refusal
from constitute.data.readers.base import Unusable, Unwanted, Use
from constitute.data.readers.recognise import LeftOut
from constitute.data.rows import Sources, named_rows, source_names
from constitute.errors import DataError
from constitute.files import BadLine, Row, atomic
from constitute.text import Reasons

_T = TypeVar("_T")
# Bytes of a list of rows left out that stay in memory.
_LISTED = 2**20
_AS_IT_IS = ReadConfig()
LEFT_OUT_FILE = "left_out.jsonl"
_SKIP = "mend the line, or count it with --skip-bad"


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
) -> tuple[list[_T], list[BadLine]]:
    """The first `limit` records that `convert` makes of a row and its file's name, and the unusable lines.

    With a `use`, rows of the public shapes of `readers` are read for it; what their shape leaves out, such as
    ties, stands among the unusable lines as `LeftOut`, as does a row that `read.overlap` keeps out. Raises
    `DataError` at the first unusable line unless `skip_bad`, and where no record is left.
    """
    kept: list[_T] = []
    bad: list[BadLine] = []
    for each in _converted(named_rows(sources, use, reading), convert, skip_bad, remedy, refusal(reading)):
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
    ) -> None:
        self._sources, self._converting, self._limit = sources, converting, limit
        self._skip_bad, self._use, self._reading = skip_bad, use, reading
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
        rows = named_rows(self._sources, self._use, self._reading)

        def kept() -> Iterator[_T]:
            for each in _converted(rows, self._converting(), self._skip_bad, _SKIP, refusal(self._reading)):
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
