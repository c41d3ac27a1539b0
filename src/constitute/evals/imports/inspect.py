"""Logs of Inspect, `.eval` and `.json`: each sample's score, with log-probabilities where they are given."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from constitute.errors import DataError
from constitute.evals.imports.base import (
    LogFormat,
    LogItem,
    SetLog,
    digest_of,
    logged_item,
    one_set,
    refuse_twice,
)
from constitute.files import read_json

_VERSION = 2
_ZSTD = 93
_LONGEST = 2**28
_OURS = "label_logprobs"
_VALUES: dict[str | float, bool] = {"C": True, "I": False, 1: True, 0: False}  # 1.0 and True are 1


def detect(path: Path) -> bool:
    """Whether the file is named as a log is; what a `.json` holds is looked at when it is read."""
    return path.suffix in (".eval", ".json")


def read(path: Path) -> SetLog:
    """One log. Raises `DataError` for another version, no samples, and scores that are not right or wrong."""
    header, samples = _zipped(path) if path.suffix == ".eval" else _plain(path)
    spec = header.get("eval")
    if not isinstance(spec, dict) or header.get("version") != _VERSION:
        raise DataError(
            f"{path} is no log of Inspect in version {_VERSION} (its version is {header.get('version')!r}); "
            "convert it with `inspect log convert`"
        )
    rows, origins, asked = [], [], []
    for sample in samples:
        rows.append(_row(path, sample))
        origins.append(sample.get("metadata") or {})
        asked.append((str(sample["id"]), sample.get("input"), sample.get("target")))
    refuse_twice(str(path), rows, "run it with `--epochs 1`")
    named = one_set(str(path), origins)
    if named is None:
        size = (spec.get("dataset") or {}).get("samples")
        named = str(spec.get("task")), max(len(rows), size or 0), digest_of(asked)
    version = (spec.get("packages") or {}).get("inspect_ai", "")
    return SetLog(
        set=named[0],
        size=named[1],
        items_hash=named[2],
        via="inspect",
        model={"engine": f"inspect {version}".strip(), "name": str(spec.get("model"))},
        rows=tuple(rows),
    )


def _plain(path: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    log = read_json(path)
    if not isinstance(log, dict):
        raise DataError(f"{path} is no log of Inspect: a JSON object is needed")
    samples = log.get("samples") or []
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise DataError(f"{path}: 'samples' is not a list of objects, as a log of Inspect has it")
    return log, iter(samples)


def _zipped(path: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise DataError(
            f"{path} is no .eval log of Inspect: it is not a zip file, or it is cut off"
        ) from None
    if "header.json" not in names:
        raise DataError(
            f"{path} has no header.json: the run did not end; finish it with `inspect eval-retry`"
        )
    parts = sorted(name for name in names if name.startswith("samples/") and name.endswith(".json"))
    return _entry(path, "header.json"), (_entry(path, name) for name in parts)


def _entry(path: Path, name: str) -> dict[str, Any]:
    """One JSON file of the zip, which Inspect packs with Zstandard; Python 3.11 cannot unpack that."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        info = archive.getinfo(name)
        if info.file_size > _LONGEST:
            raise DataError(f"{path}: {name} has {info.file_size} bytes; at most {_LONGEST} are read")
        try:
            data = _unzstd(raw, info) if info.compress_type == _ZSTD else archive.read(info)
            value = json.loads(data)
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as problem:
            raise DataError(f"{path}: {name} cannot be read ({problem}); restore the file") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: {name} is not a JSON object")
    return value


def _unzstd(raw: IO[bytes], info: zipfile.ZipInfo) -> bytes:
    import pyarrow as pa

    # A local header is 30 bytes, a name and an extra field whose lengths stand at 26 and 28 (APPNOTE 4.3.7).
    raw.seek(info.header_offset)
    head = raw.read(30)
    raw.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), 1)
    packed = pa.BufferReader(raw.read(info.compress_size))
    with pa.input_stream(packed, compression="zstd") as stream:
        data: bytes = stream.read(info.file_size)
    return data


def _row(path: Path, sample: Mapping[str, Any]) -> LogItem:
    where = f"{path}: sample {sample.get('id')!r}"
    if "id" not in sample:
        raise DataError(f"{path}: a sample has no id; is it a log of Inspect?")
    metadata = sample.get("metadata") or {}
    ours = "items_hash" in metadata
    item = logged_item(
        where,
        id=str(sample["id"]),
        question=json.dumps(sample.get("input")) if not ours else str(sample.get("input")),
        # What is asked of a set that is not ours is whether the answer is right.
        options=tuple(metadata.get("labels") or ()) if ours else ("right", "wrong"),
        matching=tuple(metadata.get("matching") or ()) if ours else (0,),
        context=str(metadata.get("context") or "") if ours else "",
    )
    if sample.get("error"):
        return LogItem(item=item, reason="the program could not ask it", failed=True)
    score = _score(where, sample.get("scores") or {})
    if score is None:
        return LogItem(item=item, reason="no score in the log")
    value = score.get("value")
    if value == "N" or value is None or value != value or value == "NaN":
        return LogItem(item=item, reason=str(score.get("reason") or "no answer in the log"))
    if not isinstance(value, str | int | float) or value not in _VALUES:
        raise DataError(f"{where}: its score is {value!r}; only right or wrong (C and I, 1 and 0) is read")
    logprobs = (score.get("metadata") or {}).get("logprobs")
    if ours and isinstance(logprobs, list) and all(isinstance(x, float | int) for x in logprobs):
        if len(logprobs) != len(item.options):
            raise DataError(f"{where}: {len(logprobs)} log-probabilities for {len(item.options)} labels")
        return LogItem(item=item, logprobs=tuple(logprobs))
    return LogItem(item=item, matching=_VALUES[value])


def _score(where: str, scores: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The one score, or that of our task."""
    if _OURS in scores or len(scores) == 1:
        found = scores.get(_OURS) or next(iter(scores.values()))
        if not isinstance(found, dict):
            raise DataError(
                f"{where}: its score is not an object; convert the log with `inspect log convert`"
            )
        return found
    if scores:
        raise DataError(f"{where} has several scores ({', '.join(scores)}); keep one with `inspect score`")
    return None


FORMAT = LogFormat("logs of Inspect (.eval or .json)", detect, read)
