"""Write the training sets of a run: SFT and preference rows, whole files in a fixed order, with a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from constitute.config import ExportConfig
from constitute.config.data import EXPORT_FORMATS
from constitute.data.card import Exported, card
from constitute.data.formats import Kind, export_format
from constitute.data.gates import LeftOut
from constitute.data.selection import rows_of, stage_of
from constitute.errors import DataError, UsageError
from constitute.files import atomic, read_json, write_json, write_text
from constitute.stages.card import LabelCard, card_of
from constitute.stages.verdict import verdict
from constitute.store import Store
from constitute.store.manifest import MANIFEST_FILE, UNFINISHED

KINDS: tuple[Kind, ...] = get_args(Kind)
CARD_FILE = "README.md"
# Which file of each kind the last export wrote.
SETS_FILE = "sets.json"
# The rows of a stage that ended ok and are not in the set of a kind, with the reason of each.
LEFT_OUT_FILE = "left_out_{}.jsonl"
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
        chosen = wanted or tuple(kind for kind in KINDS if stage_of(store, kind, config) in store.stages())
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
            stages = {"filter", *(part.stage for part in written)}
            settings = {stage: store.meta(f"stage:{stage}") for stage in sorted(stages)}
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


def _export(store: Store, kind: Kind, config: ExportConfig, folder: Path) -> Exported:
    stage = stage_of(store, kind, config)
    form = export_format(config.format)
    path = folder / f"{kind}{form.ending}"
    unlabelled: Counter[str] = Counter()
    counts = store.counts(stage)
    noted = folder / LEFT_OUT_FILE.format(kind)
    with atomic(path) as stream, atomic(noted) as lines:
        removed = LeftOut(stream=lines)
        rows = rows_of(store, kind, config, removed, unlabelled)
        number = form.write(stream, rows, kind)
        if number == 0:
            raise EmptySet(_empty(store, kind, stage, counts, removed.counts))
        if unlabelled.total() == number:
            raise UsageError(
                f"{store.folder} holds no label of a revision, so export.revisions=best cannot choose; run "
                "`label` with --set label.pairs=revision, or export --revisions last"
            )
    if not removed.counts:
        noted.unlink()
    return Exported(
        kind=kind,
        path=path,
        stage=stage,
        rows=number,
        counts=counts,
        left_out=dict(removed.counts),
        unlabelled=dict(unlabelled),
        unfinished=tuple(_unfinished(store, stage, config)),
    )


def _unfinished(store: Store, stage: str, config: ExportConfig) -> Iterator[str]:
    """The stages behind a set that stopped before they had seen every row."""
    later = {"generate": {"revise", "label"}, "revise": {"label"}}.get(stage, set())
    if config.revisions == "best" or config.accept == "both_orders":
        later = set()
    elif stage == "generate" and "revise" in store.stages():
        later = later | {"filter"}
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


def _note(folder: Path, written: list[Exported]) -> None:
    latest: dict[str, Any] = {part.kind: part.path.name for part in written}
    write_json(folder / SETS_FILE, dict(sorted((_object(folder / SETS_FILE) | latest).items())))


def _note_labels(
    store: Store, folder: Path, written: list[Exported], config: ExportConfig
) -> LabelCard | None:
    """Write what the labels behind the sets are worth, and which sets of the folder depend on them."""
    by_label = {
        part.path.name
        for part in written
        if part.kind == "preferences" or config.revisions == "best" or config.accept == "both_orders"
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
