"""Rows of files whose rows span lines, JSON arrays and tables: read piece by piece, never whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from constitute.errors import DataError, UsageError
from constitute.files import (
    LONGEST_LINE,
    BadLine,
    Row,
    json_lines,
    json_object,
    opens_with,
    read_json,
    text_chunks,
    text_lines,
)

_BLANKS = " \t\r\n"
# A JSON object of a whole file, such as a task of Super-NaturalInstructions, is small.
_WHOLE = 256 * 2**20


def json_rows(path: Path) -> Iterator[Row | BadLine]:
    """The items of a JSON array, the objects of JSON lines, or the one object that a file is."""
    if opens_with(path) == b"[":
        for number, value in enumerate(_items(path), 1):
            yield json_object(f"{path}: item {number}", value)
    elif (whole := _one_object(path)) is not None:
        yield Row(f"{path}: item 1", whole)
    else:
        yield from json_lines(path)


def table_rows(path: Path, delimiter: str) -> Iterator[Row | BadLine]:
    """The lines under a line of column names; an empty cell is a missing value."""
    csv.field_size_limit(LONGEST_LINE)
    table = csv.reader(_lines(path), delimiter=delimiter, strict=True)
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


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text, ends included, of which one is in memory at once."""
    rest = ""
    for text in text_chunks(path):
        *whole, rest = (rest + text).split("\n")
        yield from (f"{line}\n" for line in whole)
    if rest:
        yield rest


def _items(path: Path) -> Iterator[Any]:
    """The items of a JSON array, one after the other. Raises `DataError` where the text is none."""
    decoder, buffer, line, wanted = json.JSONDecoder(), "", 1, 0
    state = "open"
    for text in _then_end(path):
        ended = text is None
        buffer += text or ""
        if len(buffer) < wanted and not ended:
            continue
        at = 0
        while True:
            at = _after_blanks(buffer, at)
            if at == len(buffer):
                break
            mark = buffer[at]
            if state == "open":
                state, at = "first", at + 1
            elif mark == "]" and state in ("first", "after"):
                state, at = "closed", at + 1
            elif state == "after" and mark == ",":
                state, at = "item", at + 1
            elif state in ("first", "item"):
                try:
                    value, end = decoder.raw_decode(buffer, at)
                except json.JSONDecodeError as problem:
                    if not ended and len(buffer) - at <= LONGEST_LINE:
                        break
                    raise _broken(path, line + problem.lineno - 1, problem.msg) from None
                except (RecursionError, ValueError) as problem:
                    raise _broken(path, line, str(problem)) from None
                if end == len(buffer) and not ended:
                    # A number may go on in the next piece.
                    break
                yield value
                state, at = "after", end
            else:
                raise _broken(path, line + buffer.count("\n", 0, at), "Expecting ',' delimiter")
        line += buffer.count("\n", 0, at)
        buffer = buffer[at:]
        # What is cut off is tried again when there is twice as much of it, so that long items cost no more.
        wanted = 2 * len(buffer)
    if state != "closed":
        raise _broken(path, line, "the array does not end")


def _then_end(path: Path) -> Iterator[str | None]:
    yield from text_chunks(path)
    yield None


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def _broken(path: Path, line: int, problem: str) -> DataError:
    return DataError(f"{path}:{line}: not JSON ({problem}); mend or restore the file")


def _one_object(path: Path) -> dict[str, Any] | None:
    """The object that a whole file is, None where its first line is an object or the file is no JSON."""
    first = next((line for line in text_lines(path) if not isinstance(line, BadLine)), None)
    if first is None or first[1].rstrip().endswith("}") or path.stat().st_size > _WHOLE:
        return None
    try:
        value = read_json(path)
    except (DataError, UsageError):
        return None
    return value if isinstance(value, dict) else None
