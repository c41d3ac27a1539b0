"""Write the training sets of a run: SFT and preference rows, whole files in a fixed order, with a card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal

from constitute.config import ExportConfig
from constitute.data.card import card
from constitute.data.export_rows import (
    NotExportable,
    Row,
    best_of,
    preference_hh_row,
    preference_row,
    sft_hh_rows,
    sft_rows,
)
from constitute.errors import UsageError
from constitute.files import atomic, write_text
from constitute.store import Store
from constitute.types import LabelledPair, Outcome, Record, Response

Kind = Literal["sft", "preferences"]
KINDS: tuple[Kind, ...] = ("sft", "preferences")
CARD_FILE = "README.md"
_BATCH = 1000


class EmptySet(UsageError):
    """A set would hold no row."""


class Exported(Record):
    """One file written: its rows, the stage they come from, how that stage ended, and what was left out.

    `counts` are the stage's rows by status; `left_out` counts rows that ended ok and gave no training
    row, by reason; `unlabelled` the rows for which no label could choose the answer, by reason.
    """

    kind: Kind
    path: Path
    stage: str
    rows: int
    counts: dict[str, int]
    left_out: dict[str, int]
    unlabelled: dict[str, int]


def export_run(
    run_dir: Path, config: ExportConfig, *, kinds: Iterable[Kind] = (), out: Path | None = None
) -> list[Exported]:
    """Write the sets `kinds` (all that the run has rows for, if none is named) and a data card.

    The files are `sft` and `preferences` with `.jsonl` or `.parquet` (`-hh.jsonl` for HH text) under
    `out`, by default `RUN/export`. The same store gives the same bytes. Raises `UsageError` where a set
    would be empty and `StorageError` where the disk refuses; a file is then as it was.
    """
    wanted = tuple(kinds)
    folder = out or run_dir / "export"
    with Store.open(run_dir, create=False, readonly=True) as store:
        chosen = wanted or tuple(kind for kind in KINDS if _stage(store, kind, config) in store.stages())
        if not chosen:
            hint = ", or --revisions none for the responses" if "generate" in store.stages() else ""
            raise UsageError(f"{run_dir} holds no rows to export; run `revise` or `label` first{hint}")
        written: list[Exported] = []
        empty: EmptySet | None = None
        for kind in chosen:
            try:
                written.append(_export(store, kind, config, folder))
            except EmptySet as problem:
                empty = problem
        if written:
            settings = {part.stage: store.meta(f"stage:{part.stage}") or {} for part in written}
            reasons = {part.stage: store.reasons(part.stage) for part in written}
            write_text(folder / CARD_FILE, card(written, config, settings, reasons, _manifest(run_dir)))
    if empty:
        raise empty
    return written


def rows_of(
    store: Store, kind: Kind, config: ExportConfig, left_out: Counter[str], unlabelled: Counter[str]
) -> Iterator[Row]:
    """The training rows of a store, by position and then id; what gives none is counted in `left_out`.

    With `revisions=best`, the rows that take the last revision for want of a label are in `unlabelled`.
    """
    convert = _converter(store, kind, config, unlabelled)
    for outcome in store.outcomes(_stage(store, kind, config), status="ok"):
        try:
            yield from convert(outcome)
        except NotExportable as reason:
            left_out[str(reason)] += 1


def _converter(
    store: Store, kind: Kind, config: ExportConfig, unlabelled: Counter[str]
) -> Callable[[Outcome], list[Row]]:
    hh = config.format == "hh"
    if kind == "preferences":
        row = preference_hh_row if hh else preference_row
        return lambda outcome: [row(LabelledPair.model_validate(outcome.data))]
    rows = sft_hh_rows if hh else sft_rows

    def convert(outcome: Outcome) -> list[Row]:
        response = Response.model_validate(outcome.data)
        if config.revisions != "best":
            return rows(response, config.revisions)
        which, problem = best_of(response, _label(store, response.id))
        found = rows(response, which)
        if problem:
            unlabelled[problem] += len(found)
        return found

    return convert


def _label(store: Store, response_id: str) -> LabelledPair | None:
    """The label of a response (A) against its last revision (B), where it has one."""
    outcome = store.outcome("label", f"{response_id}-rev")
    if outcome is None or outcome.status != "ok":
        return None
    return LabelledPair.model_validate(outcome.data)


def _stage(store: Store, kind: Kind, config: ExportConfig) -> str:
    if kind == "preferences":
        return "label"
    return "generate" if config.revisions == "none" and "generate" in store.stages() else "revise"


def _export(store: Store, kind: Kind, config: ExportConfig, folder: Path) -> Exported:
    stage = _stage(store, kind, config)
    ending = {"jsonl": ".jsonl", "parquet": ".parquet", "hh": "-hh.jsonl"}[config.format]
    path = folder / f"{kind}{ending}"
    left_out: Counter[str] = Counter()
    unlabelled: Counter[str] = Counter()
    rows = rows_of(store, kind, config, left_out, unlabelled)
    write = _write_parquet if config.format == "parquet" else _write_jsonl
    counts = store.counts(stage)
    with atomic(path) as stream:
        number = write(stream, rows, kind)
        if number == 0:
            raise EmptySet(_empty(store, kind, stage, counts, left_out))
        if unlabelled.total() == number:
            raise UsageError(
                f"{store.folder} holds no label of a revision, so export.revisions=best cannot choose; run "
                "`label` with --set label.pairs=revision, or export --revisions last"
            )
    return Exported(
        kind=kind,
        path=path,
        stage=stage,
        rows=number,
        counts=counts,
        left_out=dict(left_out),
        unlabelled=dict(unlabelled),
    )


def _empty(store: Store, kind: Kind, stage: str, counts: dict[str, int], left_out: Counter[str]) -> str:
    ended = ", ".join(f"{number} {status}" for status, number in counts.items())
    if not any(counts.values()):
        return f"{store.folder} holds no {stage} rows, so the {kind} set would be empty; run `{stage}` first"
    why = "; ".join(f"{number} {reason}" for reason, number in left_out.most_common())
    tail = f" (left out: {why})" if why else ""
    return (
        f"the {kind} set would be empty: {stage} ended with {ended}{tail}; "
        f"`constitute status --run {store.folder}` tells why"
    )


def _write_jsonl(stream: IO[bytes], rows: Iterable[Row], kind: Kind) -> int:
    number = 0
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n")
        number += 1
    return number


def _write_parquet(stream: IO[bytes], rows: Iterable[Row], kind: Kind) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, texts = pa.string(), pa.list_(pa.string())
    turns = pa.list_(pa.struct([("role", text), ("content", text)]))
    fields = {
        "sft": [("id", text), ("messages", turns), ("principle_ids", texts)],
        "preferences": [
            *(("id", text), ("prompt", turns), ("chosen", turns), ("rejected", turns)),
            *(("chosen_prob", pa.float64()), ("chosen_source", text), ("rejected_source", text)),
            ("principle_ids", texts),
        ],
    }[kind]
    schema = pa.schema(fields)
    number = 0
    with pq.ParquetWriter(stream, schema) as writer:
        for batch in _batches(rows):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            number += len(batch)
    return number


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _manifest(run_dir: Path) -> dict[str, Any]:
    """The run's manifest, or nothing where it is missing or cut off: the card then says less."""
    with suppress(OSError, ValueError):
        value = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    return {}
