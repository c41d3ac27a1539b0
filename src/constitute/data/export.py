"""Write the training sets of a run: SFT and preference rows, whole files in a fixed order, with a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

from constitute.config import ExportConfig, GatesConfig
from constitute.config.data import NO_GATES
from constitute.data.card import Exported, Origin, card
from constitute.data.formats import Kind, Row, export_format
from constitute.data.removal import Exclusion, Removed, note_removed, read_exclusion
from constitute.data.selection import rows_of, stage_of
from constitute.data.sets import CARD_FILE, note_labels, note_sets, noted_object
from constitute.errors import UsageError
from constitute.files import atomic, write_text
from constitute.store import Store
from constitute.store.manifest import MANIFEST_FILE
from constitute.store.unfinished import Unfinished, unfinished

KINDS: tuple[Kind, ...] = get_args(Kind)
# Prompts are written where they are asked for.
_UNASKED: tuple[Kind, ...] = ("sft", "preferences")


class EmptySet(UsageError):
    """A set would hold no row."""


def export_run(
    run_dir: Path,
    config: ExportConfig,
    *,
    kinds: Iterable[Kind] = (),
    out: Path | None = None,
    gates: GatesConfig = NO_GATES,
) -> list[Exported]:
    """Write the sets `kinds` (all that the run has rows for, if none is named) and a data card.

    The files are `sft` and `preferences` with the ending of the format under `out`, by default
    `RUN/export`, where `sets.json` says which ones are the latest. The same store gives the same bytes.
    Labels that do not pass the `gates` are written too, with that said beside them.
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
            kind for kind in _UNASKED if kind in known and stage_of(store, kind, config) in store.stages()
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
            labels = note_labels(store, folder, written, config, gates)
            origin = Origin(
                settings={stage: store.meta(f"stage:{stage}") for stage in store.stages()},
                reasons={part.stage: store.reasons(part.stage) for part in written},
                manifest=noted_object(run_dir / MANIFEST_FILE),
            )
            write_text(folder / CARD_FILE, card(written, config, origin, labels, files, gates))
    if empty:
        raise empty
    return written


def _export(
    store: Store, kind: Kind, config: ExportConfig, folder: Path, exclusion: Exclusion, left_out: Removed
) -> Exported:
    stage = stage_of(store, kind, config)
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


def _unfinished(store: Store, stage: str, config: ExportConfig) -> Iterator[Unfinished]:
    """The stages behind a set that stopped before they had seen every row."""
    later = {"generate": {"revise", "label"}, "revise": {"label"}}.get(stage, set())
    if config.revisions == "best" or config.accept == "both_orders":
        later = set()
    elif stage == "generate" and "revise" in store.stages():
        later = later | {"filter"}
    yield from (each for each in unfinished(store) if each.stage not in later)


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
