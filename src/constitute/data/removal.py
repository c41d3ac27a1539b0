"""Rows that an export leaves out because somebody asked for it, and the list of every row left out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from constitute.config import ExportConfig
from constitute.data.formats import NotExportable
from constitute.errors import DataError
from constitute.files import BadLine, atomic, json_lines, log_rows, text_lines
from constitute.types import LabelledPair

REMOVED_FILE = "removed.jsonl"
# Rounding of 2 P - 1: a label of 0.6 has the margin 0.2.
_ROUNDING = 1e-9
# Beyond it the list of one set lies in a temporary file.
_IN_MEMORY = 2**24


class Exclusion:
    """Ids of rows and of prompts that are not to be exported, and which of them were met."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self.ids = frozenset(ids)
        self._met: set[str] = set()

    @property
    def unmet(self) -> list[str]:
        """The ids under which no row was found, sorted."""
        return sorted(self.ids - self._met)

    def refuse(self, *names: str) -> None:
        """Raise `NotExportable` where one of a row's names is listed."""
        found = self.ids.intersection(names)
        self._met |= found
        if found:
            raise NotExportable("listed in export.exclude")


def read_exclusion(file: str | None) -> Exclusion:
    """The ids of a file: one a line, or JSON lines with an `id` (or `row_id`); none without a file.

    Raises `UsageError` where there is no such file and `DataError` with file and line.
    """
    if file is None:
        return Exclusion()
    path = Path(file)
    return Exclusion(_json_ids(path) if path.suffix in (".jsonl", ".ndjson") else _text_ids(path))


def _json_ids(path: Path) -> Iterator[str]:
    for row in json_lines(path):
        if isinstance(row, BadLine):
            raise DataError(f"{row.where}: {row.reason}; mend the line")
        found = row.value.get("id", row.value.get("row_id"))
        if not isinstance(found, str):
            raise DataError(f"{row.where}: no id; give each line an id, or one id a line in a .txt file")
        yield found


def _text_ids(path: Path) -> Iterator[str]:
    for line in text_lines(path):
        if isinstance(line, BadLine):
            raise DataError(f"{line.where}: {line.reason}; mend the line")
        yield line[1].strip()


def refuse_beyond_share(prompt_id: str, config: ExportConfig) -> None:
    """Raise `NotExportable` for a prompt that is not among the share whose answers SFT imitates.

    A prompt is in or out by a hash of (seed, id), so all its rows go together and more prompts change none.
    """
    digest = hashlib.sha256(f"{config.seed} sft {prompt_id}".encode()).digest()
    if int.from_bytes(digest[:8], "big") >= config.sft_share * 2**64:
        raise NotExportable("left to labels and to reinforcement learning (export.sft_share)")


def refuse_weak(pair: LabelledPair, config: ExportConfig) -> None:
    """Raise `NotExportable` for a pair whose label is too near to 0.5, or changes with the order."""
    if abs(2 * pair.label.p_a - 1) + _ROUNDING < config.min_margin:
        raise NotExportable(f"a margin below {config.min_margin:g} (export.min_margin)")
    if config.drop_order_flips and pair.label.flipped:
        raise NotExportable("most votes change with the order (export.drop_order_flips)")


class Removed:
    """The rows that gave no training row of one set: counted by reason, and listed one by one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        # It lives as long as the export that fills it and then copies it, so no `with` can hold it here.
        self._lines: IO[bytes] = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115

    def add(self, row_id: str, reason: str, like: str | None = None) -> None:
        """Note a row and why it was left out; `like` is the row that stays in its place, or an eval item."""
        self.counts[reason] += 1
        row = {"set": self.name, "id": row_id, "reason": reason}
        self._lines.write(_line(row if like is None else {**row, "like": like}))

    def lines(self) -> Iterator[bytes]:
        """The list, a JSON object a line, in the order of the rows."""
        self._lines.seek(0)
        yield from self._lines


def note_removed(folder: Path, removed: Iterable[Removed]) -> None:
    """Write `removed.jsonl`; what it says of sets that were not written now stays."""
    sets = {each.name: each for each in removed}
    path = folder / REMOVED_FILE

    def kept() -> Iterator[dict[str, Any]]:
        return (row for row in log_rows(path) if row.get("set") not in sets)

    if not any(each.counts for each in sets.values()) and next(kept(), None) is None:
        path.unlink(missing_ok=True)
        return
    with atomic(path) as stream:
        stream.writelines(map(_line, kept()))
        for each in sets.values():
            stream.writelines(each.lines())


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"
