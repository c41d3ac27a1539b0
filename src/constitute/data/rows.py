"""Read rows from files of any known ending or a Hub data set, each with the place it came from.

To add a kind of file, write a function that takes a path and yields `Row` or `BadLine`, and give it a line in
`READERS`. `--prompts`, `--pairs` and the trainers' `--data` then read it.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from constitute.config.data import ReadConfig
from constitute.data.readers.base import Unusable as Unusable
from constitute.data.readers.base import Use
from constitute.data.readers.recognise import pieces, rows_for
from constitute.data.spans import json_rows, table_rows
from constitute.errors import DataError, UsageError
from constitute.files import (
    COMPRESSIONS,
    BadLine,
    Row,
    json_lines,
    refuse_binary,
    text_lines,
)

Reader = Callable[[Path], Iterator[Row | BadLine]]
# A file, a folder, a glob or a Hub data set (`owner/name:split`, `owner/name:config@split`); several add up.
Source = str | Path
Sources = Source | Sequence[Source]
_HUB = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+@[\w.\[\]%:-]+|:[\w.\[\]%:-]+|@[\w.\[\]%:-]+)?")
# Files beside data that say something about it.
_ABOUT = ("dataset_info.json", "dataset_infos.json", "state.json", "card.json")
_SPLIT = re.compile(r"(?<![a-z])(?:train|test|validation|valid|dev)(?![a-z])", re.IGNORECASE)
# Rows of a Parquet file in memory at once.
_BATCH = 256
_AS_IT_IS = ReadConfig()


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


def source_list(sources: Sources) -> list[Source]:
    """The files or data sets that were given, one or several."""
    return [sources] if isinstance(sources, str | Path) else list(sources)


def source_names(sources: Sources) -> str:
    """The files or data sets that were given, as words of a message."""
    return ", ".join(map(str, source_list(sources)))


def named_rows(sources: Sources, use: Use | None, reading: ReadConfig) -> Iterator[tuple[Row | BadLine, str]]:
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
