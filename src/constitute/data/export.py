"""Write the training sets of a run: SFT and preference rows, whole files in a fixed order, with a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from constitute.config import ExportConfig
from constitute.data.card import Exported, Origin, card
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
from constitute.data.removal import Exclusion, Removed, note_removed, read_exclusion, refuse_weak
from constitute.data.sets import CARD_FILE, note_labels, note_sets, noted_object
from constitute.errors import DataError, UsageError
from constitute.files import atomic, write_text
from constitute.store import Store
from constitute.store.manifest import MANIFEST_FILE, UNFINISHED
from constitute.types import LabelledPair, Outcome, Prompt, Response

KINDS: tuple[Kind, ...] = get_args(Kind)
# Prompts are written where they are asked for.
_UNASKED: tuple[Kind, ...] = ("sft", "preferences")


class EmptySet(UsageError):
    """A set would hold no row."""


def export_run(
    run_dir: Path, config: ExportConfig, *, kinds: Iterable[Kind] = (), out: Path | None = None
) -> list[Exported]:
    """Write the sets `kinds` (all that the run has rows for, if none is named) and a data card.

    The files are `sft` and `preferences` with the ending of the format under `out`, by default
    `RUN/export`, where `sets.json` says which ones are the latest. The same store gives the same bytes.
    Raises `UsageError` where a set would be empty and `StorageError` where the disk refuses; a file is
    then as it was.
    """
    wanted = tuple(kinds)
    folder = out or _folder(run_dir)
    exclusion = read_exclusion(config.exclude)
    with Store.open(run_dir, create=False, readonly=True) as store:
        known = export_format(config.format).kinds
        if unknown := [kind for kind in wanted if kind not in known]:
            raise UsageError(
                f"the format {config.format} has no {unknown[0]} set, only {' and '.join(known)}; give "
                "another --format or --what"
            )
        chosen = wanted or tuple(
            kind for kind in _UNASKED if kind in known and _stage(store, kind, config) in store.stages()
        )
        if not chosen:
            hint = ", or --revisions none for the responses" if "generate" in store.stages() else ""
            raise UsageError(f"{run_dir} holds no rows to export; run `revise` or `label` first{hint}")
        written: list[Exported] = []
        removed: list[Removed] = []
        empty: EmptySet | None = None
        for kind in chosen:
            left_out = Removed(f"{kind}{export_format(config.format).ending}")
            try:
                written.append(_export(store, kind, config, folder, exclusion, left_out))
                removed.append(left_out)
            except EmptySet as problem:
                empty = problem
        if written:
            written = [part.model_copy(update={"unmet": tuple(exclusion.unmet)}) for part in written]
            files = note_sets(folder, written, trained=export_format(config.format).trained)
            note_removed(folder, removed)
            labels = note_labels(store, folder, written, config)
            origin = Origin(
                settings={stage: store.meta(f"stage:{stage}") for stage in store.stages()},
                reasons={part.stage: store.reasons(part.stage) for part in written},
                manifest=noted_object(run_dir / MANIFEST_FILE),
            )
            write_text(folder / CARD_FILE, card(written, config, origin, labels, files))
    if empty:
        raise empty
    return written


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
    seen: set[str] = set()
    for outcome in store.outcomes(_stage(store, kind, config), status="ok"):
        try:
            rows, problem = _rows(store, kind, config, outcome, exclusion)
            if kind == "prompts" and rows[0]["id"] in seen:
                continue
        except NotExportable as reason:
            left_out.add(outcome.row_id, str(reason))
            continue
        except ValidationError as damage:
            field = ".".join(map(str, damage.errors()[0]["loc"]))
            raise DataError(
                f"{store.folder}: the stored row {outcome.row_id!r} is damaged at {field or 'its root'}; "
                "restore the run directory from a copy, or start the run anew"
            ) from None
        for row in rows:
            try:
                exclusion.refuse(row["id"])
                shaped = shape(row, kind)
                seen |= {row["id"]} if kind == "prompts" else set()
            except NotExportable as reason:
                left_out.add(row["id"], str(reason))
                continue
            if problem:
                unlabelled[problem] += 1
            yield from shaped


def _rows(
    store: Store, kind: Kind, config: ExportConfig, outcome: Outcome, exclusion: Exclusion
) -> tuple[list[Row], str | None]:
    """The rows of one record, and why no label could choose among its answers where that was asked for."""
    if kind == "preferences":
        pair = LabelledPair.model_validate(outcome.data)
        exclusion.refuse(pair.id, pair.comparison.prompt.id)
        row = preference_row(pair)
        refuse_weak(pair, config)
        return [row], None
    if kind == "prompts":
        asked = _prompt_of(outcome)
        exclusion.refuse(asked.id)
        return [prompt_row(asked)], None
    response = Response.model_validate(outcome.data)
    exclusion.refuse(response.id, response.prompt.id)
    which: str = config.revisions
    problem: str | None = None
    if which == "best":
        which, problem = best_of(response, _label(store, response.id))
    rows = sft_rows(response, which)
    if config.preambles == "leave_out" and which != "none":
        refuse_preambles(response, rows)
    return rows, problem


def _prompt_of(outcome: Outcome) -> Prompt:
    if "comparison" in (outcome.data or {}):
        return LabelledPair.model_validate(outcome.data).comparison.prompt
    return Response.model_validate(outcome.data).prompt


def _label(store: Store, response_id: str) -> LabelledPair | None:
    """The label of a response (A) against its last revision (B), where it has one."""
    outcome = store.outcome("label", f"{response_id}-rev")
    if outcome is None or outcome.status != "ok":
        return None
    return LabelledPair.model_validate(outcome.data)


def _stage(store: Store, kind: Kind, config: ExportConfig) -> str:
    if kind == "preferences":
        return "label"
    if kind == "prompts":
        return next((name for name in ("generate", "revise", "label") if name in store.stages()), "generate")
    return "generate" if config.revisions == "none" and "generate" in store.stages() else "revise"


def _export(
    store: Store, kind: Kind, config: ExportConfig, folder: Path, exclusion: Exclusion, left_out: Removed
) -> Exported:
    stage = _stage(store, kind, config)
    form = export_format(config.format)
    path = folder / f"{kind}{form.ending}"
    unlabelled: Counter[str] = Counter()
    rows = rows_of(store, kind, config, exclusion, left_out, unlabelled)
    counts = store.counts(stage)
    first: list[Row] = []
    with atomic(path) as stream:
        number = form.write(stream, _noting(first, rows), kind)
        if number == 0:
            raise EmptySet(_empty(store, kind, stage, counts, left_out.counts))
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
        left_out=dict(left_out.counts),
        unlabelled=dict(unlabelled),
        unfinished=tuple(_unfinished(store, stage, config)),
        example=first[0],
    )


def _noting(first: list[Row], rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if not first:
            first.append(row)
        yield row


def _unfinished(store: Store, stage: str, config: ExportConfig) -> Iterator[str]:
    """The stages behind a set that stopped before they had seen every row."""
    later = {"generate": {"revise", "label"}, "revise": {"label"}}.get(stage, set())
    if config.revisions == "best":
        later = set()
    for name in store.stages():
        if name not in later and store.meta(UNFINISHED + name):
            yield name


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


def _folder(run_dir: Path) -> Path:
    """`RUN/export`; a link there may lead anywhere, so its target must be named."""
    folder = run_dir / "export"
    if folder.is_symlink():
        raise UsageError(f"{folder} is a link to {folder.resolve()}; give --out FOLDER to write there")
    return folder
