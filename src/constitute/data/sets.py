"""What an export folder notes about itself: its latest sets, and what the labels behind them are worth."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from constitute.config import ExportConfig, GatesConfig
from constitute.config.data import EXPORT_FORMATS
from constitute.data.card import Exported
from constitute.data.formats import Kind, export_format
from constitute.data.reviews import reviewed_card
from constitute.errors import DataError, UsageError
from constitute.files import read_json, write_json
from constitute.stages.card.records import LabelCard
from constitute.stages.verdict import unmet, verdict
from constitute.store import Store

CARD_FILE = "README.md"
# Which file of each kind the last export wrote.
SETS_FILE = "sets.json"
# What the labels behind the sets are worth, for programs.
LABELS_FILE = "labels.json"


def exported_file(run_dir: Path, kind: Kind) -> Path:
    """The set of `kind` that the run's last export wrote. Raises `UsageError` where there is none.

    Without a note of it, the one file of that kind is taken; of several none is guessed.
    """
    folder = run_dir / "export"
    noted = noted_object(folder / SETS_FILE).get(kind)
    endings = (form.ending for form in map(export_format, EXPORT_FORMATS) if form.trained)
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


def note_sets(folder: Path, written: Sequence[Exported], *, trained: bool) -> dict[str, str]:
    """Note the latest set of each kind that `train` reads.

    Returns the sets written now, and those noted before that one loader reads together with them.
    """
    now: dict[str, Any] = {part.kind: part.path.name for part in written}
    latest = now if trained else {}
    noted = dict(sorted((noted_object(folder / SETS_FILE) | latest).items()))
    write_json(folder / SETS_FILE, noted)
    endings = {part.path.suffix for part in written}
    return {
        kind: name
        for kind, name in sorted((noted | now).items())
        if isinstance(name, str) and Path(name).suffix in endings and (folder / Path(name).name).is_file()
    }


def note_labels(
    store: Store, folder: Path, written: Sequence[Exported], config: ExportConfig, gates: GatesConfig
) -> LabelCard | None:
    """Write what the labels behind the sets are worth, and which sets of the folder depend on them.

    `unmet` are the sentences of the gates that they do not pass.
    """
    judged = config.revisions == "best" or config.accept == "both_orders"
    by_label = {part.path.name for part in written if part.kind == "preferences" or judged}
    noted = noted_object(folder / LABELS_FILE)
    before = noted.get("sets")
    kept = {name for name in before if isinstance(name, str)} if isinstance(before, list) else set()
    names = (kept - {part.path.name for part in written}) | by_label
    if not names:
        (folder / LABELS_FILE).unlink(missing_ok=True)
        return None
    if not by_label:
        write_json(folder / LABELS_FILE, noted | {"sets": sorted(names)})
        return None
    found = reviewed_card(store)
    about = verdict(found)
    write_json(
        folder / LABELS_FILE,
        {
            "sets": sorted(names),
            "label_card": found.model_dump(mode="json"),
            "verdict": None if about is None else about.model_dump(mode="json"),
            "unmet": unmet(found, gates),
        },
    )
    return found


def labels_verdict(file: Path) -> str:
    """Why the labels behind an exported file say nothing, in one sentence; empty where that is not noted."""
    found = _noted_labels(file).get("verdict")
    sentence = found.get("sentence") if isinstance(found, dict) else None
    return sentence if isinstance(sentence, str) else ""


def unmet_gates(file: Path) -> list[str]:
    """A sentence for each gate that the labels behind an exported file did not pass."""
    found = _noted_labels(file).get("unmet")
    return [sentence for sentence in found if isinstance(sentence, str)] if isinstance(found, list) else []


def _noted_labels(file: Path) -> dict[str, Any]:
    """What is noted of the labels behind an exported file; nothing where it depends on none."""
    noted = noted_object(file.parent / LABELS_FILE)
    sets = noted.get("sets")
    return noted if isinstance(sets, list) and file.name in sets else {}


def noted_object(path: Path) -> dict[str, Any]:
    """A JSON object that is only read as a help: nothing where it is missing or broken."""
    with suppress(DataError, UsageError):
        value = read_json(path)
        if isinstance(value, dict):
            return value
    return {}
