"""Choose the rows of a training set from a run's records: which texts, and what is left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from constitute.config import ExportConfig
from constitute.data.formats import (
    Kind,
    NotExportable,
    Row,
    best_of,
    export_format,
    preference_row,
    prompt_row,
    refuse_preambles,
    sft_rows,
)
from constitute.data.gates import as_reviewed, refuse_removed, refuse_removed_pair, require_accepted
from constitute.data.overlap import touching
from constitute.data.removal import Exclusion, Removed, refuse_beyond_share, refuse_weak
from constitute.data.reviews import human_choices
from constitute.data.thin import NearDuplicates, text_of, unmatched
from constitute.store import Store
from constitute.store.spill import SpilledMap
from constitute.types import LabelledPair, Response


def rows_of(
    store: Store,
    kind: Kind,
    config: ExportConfig,
    exclusion: Exclusion,
    left_out: Removed,
    unlabelled: Counter[str],
) -> Iterator[Row]:
    """The training rows of a store, by position and then id; what gives none is noted in `left_out`.

    With `revisions=best`, the rows that take the last revision for want of a label are in `unlabelled`.
    """
    shape = export_format(config.format).rows
    out: set[str] = set()
    if config.match_lengths and kind == "preferences":
        every = _distinct(store, kind, config, exclusion, Removed(left_out.name))
        out = unmatched((row for row, _ in every), config.seed)
    for row, problem in _distinct(store, kind, config, exclusion, left_out):
        if row["id"] in out:
            left_out.add(row["id"], "left out so that lengths match (export.match_lengths)")
            continue
        try:
            shaped = shape(row, kind)
        except NotExportable as reason:
            left_out.add(row["id"], str(reason))
            continue
        if problem:
            unlabelled[problem] += 1
        yield from shaped


def _distinct(
    store: Store, kind: Kind, config: ExportConfig, exclusion: Exclusion, left_out: Removed
) -> Iterator[tuple[Row, str | None]]:
    """Rows as `_rows` makes them, without what overlaps eval sets, and near-duplicates of earlier rows."""
    touches = touching(config.overlap)
    threshold = None if kind == "prompts" else config.near_duplicates
    seen = None if threshold is None else NearDuplicates(threshold)
    for row, problem in _every(store, kind, config, exclusion, left_out):
        touch = touches(row)
        if touch is not None:
            left_out.add(row["id"], "overlaps an eval set (export.overlap)", touch.item)
            continue
        like = None if seen is None else seen.like(row["id"], text_of(row, kind))
        if like is None:
            yield row, problem
        else:
            left_out.add(row["id"], "nearly the same as an earlier row (export.near_duplicates)", like)


def _every(
    store: Store, kind: Kind, config: ExportConfig, exclusion: Exclusion, left_out: Removed
) -> Iterator[tuple[Row, str | None]]:
    seen = SpilledMap()
    stage = stage_of(store, kind, config)
    filtered = "filter" in store.stages()
    people = {} if config.reviewed == "none" else human_choices(store.folder)
    records: Iterator[LabelledPair | Response] = (
        store.records(stage, LabelledPair) if stage == "label" else store.records(stage, Response)
    )
    for record in records:
        try:
            rows, problem = _rows(store, kind, config, record, exclusion, filtered, people)
        except NotExportable as reason:
            left_out.add(record.id, str(reason))
            continue
        for row in rows:
            if kind == "prompts" and seen.get(row["id"]) is not None:
                continue
            try:
                exclusion.refuse(row["id"])
            except NotExportable as reason:
                left_out.add(row["id"], str(reason))
                continue
            if kind == "prompts":
                seen.add(row["id"])
            yield row, problem


def _rows(
    store: Store,
    kind: Kind,
    config: ExportConfig,
    record: LabelledPair | Response,
    exclusion: Exclusion,
    filtered: bool,
    people: Mapping[str, float],
) -> tuple[list[Row], str | None]:
    """The rows of one record, and why no label could choose among its answers where that was asked for."""
    asked = record.comparison.prompt if isinstance(record, LabelledPair) else record.prompt
    if kind == "prompts":
        exclusion.refuse(asked.id)
        return [prompt_row(asked)], None
    exclusion.refuse(record.id, asked.id)
    if isinstance(record, LabelledPair):
        if filtered:
            refuse_removed_pair(store, record)
        return [_preference(record, config, people)], None
    refuse_beyond_share(asked.id, config)
    which: str = config.revisions
    if filtered:
        refuse_removed(store, record.id, revised=which != "none")
    problem: str | None = None
    if which == "best":
        which, problem = best_of(record, _label(store, record.id))
    if config.accept == "both_orders" and which == "last":
        require_accepted(record, _label(store, record.id))
    rows = sft_rows(record, which)
    if config.preambles == "leave_out" and which != "none":
        refuse_preambles(record, rows)
    return rows, problem


def _preference(pair: LabelledPair, config: ExportConfig, people: Mapping[str, float]) -> Row:
    """The row of a pair, as people chose where that is asked for. Raises `NotExportable`."""
    by_people = False
    if config.reviewed != "none":
        pair, by_people = as_reviewed(pair, people, config.reviewed)
    row = preference_row(pair)
    if config.reviewed != "none":
        row["judged_by"] = "people" if by_people else "judge"
    if not by_people:
        refuse_weak(pair, config)
    return row


def _label(store: Store, response_id: str) -> LabelledPair | None:
    """The label of a response (A) against its last revision (B), where it has one."""
    outcome = store.outcome("label", f"{response_id}-rev")
    if outcome is None or outcome.status != "ok":
        return None
    return LabelledPair.model_validate(outcome.data)


def stage_of(store: Store, kind: Kind, config: ExportConfig) -> str:
    """The stage whose rows a set of `kind` is made of."""
    if kind == "preferences":
        return "label"
    if kind == "prompts":
        return next((name for name in ("generate", "revise", "label") if name in store.stages()), "generate")
    return "generate" if config.revisions == "none" and "generate" in store.stages() else "revise"
