"""Find rows of a run: how each ended and why, the text that was cut, and the figures of labels and scores."""

from __future__ import annotations

import csv
import heapq
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from constitute.errors import UsageError
from constitute.files import atomic
from constitute.registry import nearest
from constitute.store import Store, mended
from constitute.types import Outcome, PreferenceLabel, Record, Status

_BATCH = 1000
# Columns of CSV and Parquet files, and how Parquet types those that are no text.
_COLUMNS = (
    *("stage", "id", "position", "status", "reason", "cut"),
    *("p_a", "margin", "flips", "mass", "principles", "made_with", "data"),
)
_NUMBERS = {"position": "int64", "flips": "int64", "p_a": "float64", "margin": "float64", "mass": "float64"}


class RowFilter(Record):
    """Which rows are wanted; every condition that is given must hold.

    `stage` is a stage's name or the part of one before a slash, such as `evals-run`. `reason` is a part of
    the reason, whatever its case. `min_margin` and `max_margin` bound |2 P - 1|, and `flipped` takes labels
    most of whose votes change with the order: rows without such figures do not match. `worst` keeps that many
    rows, those with the most such votes first, then the smallest margin.
    """

    stage: str | None = None
    statuses: tuple[Status, ...] = ()
    reason: str = ""
    principle: str | None = None
    min_margin: float | None = None
    max_margin: float | None = None
    flipped: bool = False
    worst: int | None = None


class FoundRow(Record):
    """A row as a stage left it.

    `cut` is the text of an answer that was refused as cut short. `p_a` is P(A) of a label, or P(matching) of
    an eval item; `margin` is |2 p_a - 1|. `flips` counts votes that change with the order, and `flipped` says
    whether most do; None where no order was shown. `made_with` holds settings that it has in place of its
    stage's, `data` what the stage made.
    """

    stage: str
    id: str
    position: int
    status: Status
    reason: str | None = None
    cut: str | None = None
    p_a: float | None = None
    margin: float | None = None
    flips: int | None = None
    flipped: bool | None = None
    mass: float | None = None
    principles: tuple[str, ...] = ()
    made_with: dict[str, Any] | None = None
    data: dict[str, Any] | None = None


def find_rows(store: Store, wanted: RowFilter) -> Iterator[FoundRow]:
    """The rows that match, by stage and position, read as they are taken; `worst` ones the worst first.

    Raises `UsageError` for a stage that the run does not have, or none of whose rows has a figure to rank by.
    """
    stages = _stages(store, wanted.stage)
    found = (row for stage in stages for row in _of_stage(store, stage, wanted) if matches(row, wanted))
    if wanted.worst is None:
        return found
    worst = heapq.nsmallest(wanted.worst, (row for row in found if row.margin is not None), key=_trust)
    if not worst and wanted == RowFilter(stage=wanted.stage, worst=wanted.worst):
        raise UsageError(
            f"no row of {', '.join(stages)} in {store.folder} has a figure to rank by; labels and scored "
            "eval items have: give --stage label, or leave --worst out"
        )
    return iter(worst)


def matches(row: FoundRow, wanted: RowFilter) -> bool:
    """Whether a row meets every condition of the filter but `worst`."""
    if wanted.statuses and row.status not in wanted.statuses:
        return False
    if wanted.reason and wanted.reason.casefold() not in (row.reason or "").casefold():
        return False
    if wanted.principle is not None and not _under(row, wanted.principle):
        return False
    if wanted.flipped and not row.flipped:
        return False
    if wanted.min_margin is None and wanted.max_margin is None:
        return True
    low = 0.0 if wanted.min_margin is None else wanted.min_margin
    high = 1.0 if wanted.max_margin is None else wanted.max_margin
    return row.margin is not None and low <= row.margin <= high


def write_csv(path: Path, rows: Iterable[FoundRow]) -> int:
    """Write the rows as CSV, `data` and `principles` as JSON and words; returns how many there are."""
    number = 0
    with atomic(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", "replace", newline="")
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(_flat(row))
            number += 1
        text.flush()
        text.detach()
    return number


def write_parquet(path: Path, rows: Iterable[FoundRow]) -> int:
    """Write the rows as Parquet with the columns of `write_csv`; returns how many there are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, getattr(pa, _NUMBERS.get(name, "string"))()) for name in _COLUMNS])
    number, rest = 0, iter(rows)
    with atomic(path) as stream, pq.ParquetWriter(stream, schema) as writer:
        while batch := [_flat(row) for row in islice(rest, _BATCH)]:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            number += len(batch)
    return number


def _stages(store: Store, wanted: str | None) -> list[str]:
    known = store.stages()
    if wanted is None:
        return known
    found = [stage for stage in known if stage == wanted or stage.startswith(f"{wanted}/")]
    if not found:
        raise UsageError(f"{store.folder} has no rows of the stage {wanted!r}; {nearest(wanted, known)}")
    return found


def _of_stage(store: Store, stage: str, wanted: RowFilter) -> Iterator[FoundRow]:
    # One status is chosen by the store: the few failed rows of a long run need no look at the others.
    only = wanted.statuses[0] if len(wanted.statuses) == 1 else None
    made_with = mended.of_stage(store, stage)
    for outcome in store.outcomes(stage, only):
        cut = None
        if outcome.status == "failed" and outcome.reason is not None:
            cut = _text(store.attempted(stage, outcome.row_id, outcome.reason))
        yield _found(stage, outcome, cut, made_with.get(outcome.row_id))


def _found(stage: str, outcome: Outcome, cut: str | None, made_with: dict[str, Any] | None) -> FoundRow:
    data = outcome.data or {}
    return FoundRow(
        stage=stage,
        id=outcome.row_id,
        position=outcome.position,
        status=outcome.status,
        reason=outcome.reason,
        cut=cut,
        data=outcome.data,
        made_with=made_with,
        **_figures(data),
    )


def _figures(data: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(data.get("label"), Mapping):
        label = PreferenceLabel.model_validate(data["label"])
        shown = any(vote.flips is not None for vote in label.votes)
        principles = tuple(vote.principle_id for vote in label.votes)
        return {
            "p_a": label.p_a,
            "margin": abs(2 * label.p_a - 1),
            "flips": label.flips if shown else None,
            "flipped": label.flipped if shown else None,
            "mass": label.mass,
            "principles": principles,
        }
    if isinstance(p := data.get("p_matching"), float):
        return {"p_a": p, "margin": abs(2 * p - 1), "mass": data.get("mass")}
    steps = data.get("steps") or ()
    return {"principles": tuple(dict.fromkeys(step["principle_id"] for step in steps))}


def _trust(row: FoundRow) -> tuple[int, float]:
    return -(row.flips or 0), row.margin or 0.0


def _under(row: FoundRow, principle: str) -> bool:
    """Whether the row was made under a principle; a reason names the one that it ended under."""
    words = (row.reason or "").replace(",", " ").split()
    return principle in row.principles or any(pair == ("under", principle) for pair in pairwise(words))


def _text(answer: Mapping[str, Any] | None) -> str | None:
    """What a refused answer said, thoughts before the rest; None where it holds no text."""
    if answer is None:
        return None
    parts = [answer.get(name) for name in ("reasoning", "text")]
    return "\n".join(part for part in parts if isinstance(part, str) and part) or None


def _flat(row: FoundRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in _COLUMNS}
    for name in ("made_with", "data"):
        if values[name] is not None:
            values[name] = json.dumps(values[name], ensure_ascii=False, sort_keys=True)
    return {**values, "principles": " ".join(row.principles)}
