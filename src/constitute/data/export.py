"""Write the training sets of a run: SFT and preference rows, whole files in a fixed order, with a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from constitute.config import ExportConfig
from constitute.config.data import EXPORT_FORMATS
from constitute.data.card import Exported, card
from constitute.data.formats import (
    Kind,
    NotExportable,
    Row,
    best_of,
    export_format,
    preference_row,
    refuse_preambles,
    sft_rows,
)
from constitute.errors import DataError, UsageError
from constitute.files import atomic, read_json, write_json, write_text
from constitute.stages.card import LabelCard, card_of
from constitute.stages.verdict import verdict
from constitute.store import Store
from constitute.store.manifest import MANIFEST_FILE
from constitute.store.unfinished import Unfinished, unfinished
from constitute.types import LabelledPair, Outcome, Response

KINDS: tuple[Kind, ...] = get_args(Kind)
CARD_FILE = "README.md"
# Which file of each kind the last export wrote.
SETS_FILE = "sets.json"
# What the labels behind the sets are worth, for programs.
LABELS_FILE = "labels.json"


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
            _note(folder, written)
            labels = _note_labels(store, folder, written, config)
            settings = {part.stage: store.meta(f"stage:{part.stage}") for part in written}
            reasons = {part.stage: store.reasons(part.stage) for part in written}
            made_by = _object(run_dir / MANIFEST_FILE)
            write_text(folder / CARD_FILE, card(written, config, settings, reasons, made_by, labels))
    if empty:
        raise empty
    return written


def exported_file(run_dir: Path, kind: Kind) -> Path:
    """The set of `kind` that the run's last export wrote. Raises `UsageError` where there is none.

    Without a note of it, the one file of that kind is taken; of several none is guessed.
    """
    folder = run_dir / "export"
    noted = _object(folder / SETS_FILE).get(kind)
    endings = (export_format(name).ending for name in EXPORT_FORMATS)
    names = [noted] if isinstance(noted, str) else [f"{kind}{ending}" for ending in endings]
    found = [folder / name for name in names if (folder / name).is_file() and Path(name).name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{folder} holds several {kind} sets and no note which is the latest: "
            f"{', '.join(path.name for path in found)}; give one with --data FILE"
        )
    raise UsageError(
        f"no {kind} set in {folder}; write it with `constitute export --run {run_dir}` or give --data FILE"
    )


def rows_of(
    store: Store, kind: Kind, config: ExportConfig, left_out: Counter[str], unlabelled: Counter[str]
) -> Iterator[Row]:
    """The training rows of a store, by position and then id; what gives none is counted in `left_out`.

    With `revisions=best`, the rows that take the last revision for want of a label are in `unlabelled`.
    """
    shape = export_format(config.format).row
    for outcome in store.outcomes(_stage(store, kind, config), status="ok"):
        try:
            rows, problem = _rows(store, kind, config, outcome)
        except NotExportable as reason:
            left_out[str(reason)] += 1
            continue
        except ValidationError as damage:
            field = ".".join(map(str, damage.errors()[0]["loc"]))
            raise DataError(
                f"{store.folder}: the stored row {outcome.row_id!r} is damaged at {field or 'its root'}; "
                "restore the run directory from a copy, or start the run anew"
            ) from None
        for row in rows:
            try:
                shaped = shape(row, kind)
            except NotExportable as reason:
                left_out[str(reason)] += 1
                continue
            if problem:
                unlabelled[problem] += 1
            yield shaped


def _rows(store: Store, kind: Kind, config: ExportConfig, outcome: Outcome) -> tuple[list[Row], str | None]:
    """The rows of one record, and why no label could choose among its answers where that was asked for."""
    if kind == "preferences":
        return [preference_row(LabelledPair.model_validate(outcome.data))], None
    response = Response.model_validate(outcome.data)
    which: str = config.revisions
    problem: str | None = None
    if which == "best":
        which, problem = best_of(response, _label(store, response.id))
    rows = sft_rows(response, which)
    if config.preambles == "leave_out" and which != "none":
        refuse_preambles(response, rows)
    return rows, problem


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
    form = export_format(config.format)
    path = folder / f"{kind}{form.ending}"
    left_out: Counter[str] = Counter()
    unlabelled: Counter[str] = Counter()
    rows = rows_of(store, kind, config, left_out, unlabelled)
    counts = store.counts(stage)
    with atomic(path) as stream:
        number = form.write(stream, rows, kind)
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
        unfinished=tuple(_unfinished(store, stage, config)),
    )


def _unfinished(store: Store, stage: str, config: ExportConfig) -> Iterator[Unfinished]:
    """The stages behind a set that stopped before they had seen every row."""
    later = {"generate": {"revise", "label"}, "revise": {"label"}}.get(stage, set())
    if config.revisions == "best":
        later = set()
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


def _note(folder: Path, written: list[Exported]) -> None:
    latest: dict[str, Any] = {part.kind: part.path.name for part in written}
    write_json(folder / SETS_FILE, dict(sorted((_object(folder / SETS_FILE) | latest).items())))


def _note_labels(
    store: Store, folder: Path, written: list[Exported], config: ExportConfig
) -> LabelCard | None:
    """Write what the labels behind the sets are worth, and which sets of the folder depend on them."""
    by_label = {
        part.path.name for part in written if part.kind == "preferences" or config.revisions == "best"
    }
    noted = _object(folder / LABELS_FILE)
    before = noted.get("sets")
    kept = {name for name in before if isinstance(name, str)} if isinstance(before, list) else set()
    names = (kept - {part.path.name for part in written}) | by_label
    if not names:
        (folder / LABELS_FILE).unlink(missing_ok=True)
        return None
    if not by_label:
        write_json(folder / LABELS_FILE, noted | {"sets": sorted(names)})
        return None
    found = card_of(store)
    about = verdict(found)
    write_json(
        folder / LABELS_FILE,
        {
            "sets": sorted(names),
            "label_card": found.model_dump(mode="json"),
            "verdict": None if about is None else about.model_dump(mode="json"),
        },
    )
    return found


def labels_verdict(file: Path) -> str:
    """Why the labels behind an exported file say nothing, in one sentence; empty where that is not noted."""
    noted = _object(file.parent / LABELS_FILE)
    sets, found = noted.get("sets"), noted.get("verdict")
    if not isinstance(sets, list) or file.name not in sets or not isinstance(found, dict):
        return ""
    sentence = found.get("sentence")
    return sentence if isinstance(sentence, str) else ""


def _object(path: Path) -> dict[str, Any]:
    """A JSON object that is only read as a help: nothing where it is missing or broken."""
    with suppress(DataError, UsageError):
        value = read_json(path)
        if isinstance(value, dict):
            return value
    return {}
