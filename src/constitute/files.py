"""One way to read a file and one way to write it: whole or not at all, in any encoding we can name.

A writer fills a new file with a random name beside the target, never through a link, and then puts it in
the target's place. Readers take UTF-8, with or without a byte-order mark, plain or compressed, and say which
lines a killed writer left incomplete.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import fcntl
import glob
import gzip
import io
import json
import lzma
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from constitute.errors import DataError, StorageError, UsageError
from constitute.types import Record


def _open_zstd(path: Path, mode: str) -> IO[bytes]:
    """Open a Zstandard file to read; pyarrow, which is there for Parquet, has the codec."""
    import pyarrow as pa

    return cast(IO[bytes], io.BufferedReader(pa.input_stream(str(path), compression="zstd")))


# Ending -> what opens such a file; a further compression is a line here.
COMPRESSIONS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstd,
}
_BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError)
# A longer line is no row of text; reading it whole would fill the memory.
LONGEST_LINE = 64 * 2**20
_PRIVATE = os.O_NOFOLLOW | os.O_CLOEXEC
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
# Of random bytes 11 % are control characters; of text none are, or single ones in lines that cannot be used.
_HEAD = 8192
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_MOST_CONTROLS = 0.1
_CUT_OFF = "; the file's last line is cut off"


class BadLine(Record):
    """An input line that could not be used: where it stands and why."""

    where: str
    reason: str


class Row(NamedTuple):
    """One JSON object of a file and its place, as `file:line`."""

    where: str
    value: dict[str, Any]


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well and leaves nothing behind otherwise.

    Temporary files that a killed writer of `path` left are removed. Raises `StorageError` when the disk
    refuses; `path` is then as it was.
    """
    with _storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path)
        temporary, descriptor = _create_beside(path)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill that becomes `path`, in place of what was there, when the block ends well.

    A link at `path` is replaced and not followed. Folders that a killed writer of `path` left are removed.
    Raises `StorageError` when the disk refuses; `path` is then as it was.
    """
    with _storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path)
        staging, old = _beside(path, "tmp"), _beside(path, "old")
        staging.mkdir()
        descriptor = os.open(staging, os.O_RDONLY | _PRIVATE)
        try:
            _lock(descriptor)
            yield staging
            for file in sorted(staging.rglob("*")):
                if file.is_file():
                    _sync(file)
            if os.path.lexists(path):
                os.replace(path, old)
            os.replace(staging, path)
            sync_folder(path.parent)
        finally:
            os.close(descriptor)
            if os.path.lexists(old) and not os.path.lexists(path):
                os.replace(old, path)
            _remove(staging)
            _remove(old)


def write_text(path: Path, text: str) -> Path:
    """Write `text` as UTF-8, whole or not at all; returns `path`."""
    with atomic(path) as stream:
        stream.write(text.encode("utf-8"))
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as indented JSON that holds every character as it is; returns `path`."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_new(path: Path, text: str, *, force: bool) -> None:
    """Write a file that must not exist yet; `UsageError` names it unless `force`."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists already; give another name, or --force to replace it")
    write_text(path, text)


def read_text(path: Path) -> str:
    """The whole of a UTF-8 file, without a byte-order mark; compressed files are unpacked.

    Raises `UsageError` where there is no such file, `DataError` naming the line of the first bad byte.
    """
    with _open(path) as stream:
        try:
            data = stream.read()
        except _BROKEN as problem:
            raise DataError(f"{path} cannot be read ({problem}); write it anew") from None
    if data.startswith(_UTF_16):
        raise DataError(f"{path}:1: the file is UTF-16; save it as UTF-8")
    try:
        return str(data.decode("utf-8-sig"))
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        byte = data[problem.start]
        raise DataError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None


def read_json(path: Path) -> Any:
    """The JSON value a file holds. Raises `UsageError` or `DataError`, as `read_text` does."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise DataError(
            f"{path}:{problem.lineno}: not JSON ({problem.msg}); mend or restore the file"
        ) from None
    except (RecursionError, ValueError) as problem:
        raise DataError(f"{path}: JSON that cannot be read ({problem}); mend or restore the file") from None


def text_lines(path: Path) -> Iterator[tuple[str, str, bool] | BadLine]:
    """(`file:line`, text, whether a newline ended it) of each line that is not blank, or why it is unusable.

    Lines end at `\\n` alone: JSON text may hold the other separators. Raises `DataError` for UTF-16.
    """
    for number, line in _lines(path):
        if isinstance(line, BadLine):
            yield line
            continue
        where = f"{path}:{number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as problem:
            byte = line[problem.start]
            torn = "" if line.endswith(b"\n") else _CUT_OFF
            yield BadLine(where=where, reason=f"byte {problem.start + 1} (0x{byte:02x}) is not UTF-8{torn}")
            continue
        if text.strip():
            yield where, text.rstrip("\r\n"), text.endswith("\n")


def text_chunks(path: Path, size: int = 2**20) -> Iterator[str]:
    """The text of a file in pieces of about `size` bytes, for formats whose rows span lines.

    Raises as `read_text` does, at the piece that cannot be read.
    """
    decoder, line, first = codecs.getincrementaldecoder("utf-8-sig")(), 1, True
    with _open(path) as stream:
        while True:
            try:
                data = stream.read(size)
            except _BROKEN as problem:
                raise DataError(f"{path} cannot be read ({problem}); write it anew") from None
            if first and data.startswith(_UTF_16):
                raise DataError(f"{path}:1: the file is UTF-16; save it as UTF-8")
            first = False
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as problem:
                line += problem.object[: problem.start].count(b"\n")
                byte = problem.object[problem.start]
                raise DataError(
                    f"{path}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
                ) from None
            line += text.count("\n")
            if text:
                yield text
            if not data:
                return


def json_lines(path: Path) -> Iterator[Row | BadLine]:
    """The JSON object of each line, or why the line holds none."""
    for line in text_lines(path):
        if isinstance(line, BadLine):
            yield line
            continue
        where, text, ended = line
        try:
            value = json.loads(text)
        except json.JSONDecodeError as problem:
            torn = "" if ended else _CUT_OFF
            yield BadLine(where=where, reason=f"not JSON at column {problem.colno} ({problem.msg}){torn}")
            continue
        except (RecursionError, ValueError) as problem:
            yield BadLine(where=where, reason=f"JSON that cannot be read ({problem})")
            continue
        yield json_object(where, value)


def json_object(where: str, value: Any) -> Row | BadLine:
    """`value` as the row at `where`, unless it is no object."""
    if isinstance(value, dict):
        return Row(where, value)
    return BadLine(where=where, reason=f"a JSON {type(value).__name__} where an object is needed")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL log, as `log_rows`."""
    return list(log_rows(path))


def log_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL log that a run writes as it goes; none where there is no such file.

    A last line without its newline is still being written, or was torn by a kill, and is left out. Raises
    `DataError` for any other line that cannot be read.
    """
    torn: BadLine | None = None
    for row in json_lines(path) if path.is_file() else ():
        if torn is not None:
            raise _unreadable(torn)
        if isinstance(row, Row):
            yield row.value
        elif row.reason.endswith(_CUT_OFF):
            torn = row
        else:
            raise _unreadable(row)


def _unreadable(line: BadLine) -> DataError:
    return DataError(f"{line.where}: {line.reason}; restore the file, or start the run anew")


def append_log(path: Path, lines: Sequence[str]) -> None:
    """Add lines to a JSONL log, and return when the disk has them. Raises `StorageError`, also for a link.

    What a killed writer left of a line is removed, as `read_log` never gave it and nothing may join it.
    """
    if lines:
        with _storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _PRIVATE, 0o666)
            with os.fdopen(descriptor, "ab") as stream:
                _remove_torn_line(descriptor)
                stream.write("".join(f"{line}\n" for line in lines).encode("utf-8"))
                stream.flush()
                os.fsync(stream.fileno())


def _remove_torn_line(descriptor: int, piece: int = 2**16) -> None:
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - piece)
        at = os.pread(descriptor, end - start, start).rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)


def refuse_binary(path: Path) -> None:
    """Raise `DataError` for a file whose beginning is no text: control characters, and no UTF-8."""
    with _open(path) as stream:
        try:
            head = stream.read(_HEAD)
        except _BROKEN:
            # Its reader says where it is broken.
            return
    if head.startswith(_UTF_16):
        return
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        most = _MOST_CONTROLS
    except UnicodeDecodeError:
        most = _MOST_CONTROLS / 10
    if len(_CONTROL.findall(head)) > most * len(head):
        raise DataError(f"{path} is not a text file; give JSON lines or other text in UTF-8")


def file_in_the_way(folder: Path) -> Path | None:
    """The file that stands where `folder`, or a folder above it, has to be."""
    first = next((each for each in (folder, *folder.parents) if each.exists()), None)
    return None if first is None or first.is_dir() else first


def opens_with(path: Path) -> bytes:
    """The first byte of a file that is neither white space nor part of a byte-order mark."""
    for _, line in _lines(path):
        if isinstance(line, bytes) and (found := line.removeprefix(b"\xef\xbb\xbf").strip()):
            return found[:1]
    return b""


def sync_folder(folder: Path) -> None:
    """Put the names in `folder` on disk."""
    _sync(folder)


def _open(path: Path) -> IO[bytes]:
    try:
        stream: IO[bytes] = COMPRESSIONS.get(path.suffix, open)(path, "rb")
    except FileNotFoundError:
        raise UsageError(f"no such file: {path}; check the name") from None
    except OSError as problem:
        raise DataError(f"{path} cannot be opened ({problem.strerror}); check what it is") from None
    return stream


def _lines(path: Path) -> Iterator[tuple[int, bytes | BadLine]]:
    """Each line with its number, from 1; what is too long to read or broken comes as a `BadLine`."""
    number = 0
    with _open(path) as stream:
        try:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if number == 1 and line.startswith(_UTF_16):
                    raise DataError(f"{path}:1: the file is UTF-16; save it as UTF-8")
                if len(line) <= LONGEST_LINE:
                    yield number, line
                    continue
                while line and not line.endswith(b"\n"):
                    line = stream.readline(LONGEST_LINE)
                reason = f"the line is longer than {LONGEST_LINE // 2**20} MiB"
                yield number, BadLine(where=f"{path}:{number}", reason=reason)
        except _BROKEN as problem:
            reason = f"the data is broken or cut off here ({problem})"
            yield number + 1, BadLine(where=f"{path}:{number + 1}", reason=reason)


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as problem:
        if (file := file_in_the_way(path.parent)) is not None:
            raise StorageError(f"cannot write {path}: {file} is a file; give a folder") from problem
        reason = problem.strerror or str(problem)
        raise StorageError(
            f"cannot write {path}: {reason}; nothing was changed, free the disk or choose another place"
        ) from problem


def _beside(path: Path, ending: str) -> Path:
    """A new name beside `path` that nobody can guess."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.{ending}")


def _create_beside(path: Path) -> tuple[Path, int]:
    """A new empty file beside `path`, open and locked: other processes can tell it from one left behind."""
    while True:
        temporary = _beside(path, "tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _PRIVATE, 0o666)
        _lock(descriptor)
        if os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        # Another process took the file for an orphan before it was locked.
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    # Some file systems have no locks: their orphans are then never removed.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _remove_orphans(path: Path) -> None:
    """Remove the temporary files and folders of `path` that no living process holds.

    A folder moved aside by a writer that was killed before it put the new one there is moved back.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 16}.[to][ml][pd]"):
        with contextlib.suppress(OSError):
            mode = left.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                continue
            descriptor = os.open(left, os.O_RDONLY | _PRIVATE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if left.suffix == ".old" and not os.path.lexists(path):
                    os.replace(left, path)
                else:
                    _remove(left)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
