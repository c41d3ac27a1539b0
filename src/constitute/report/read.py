"""Read what lies beside the store in a run directory; each file may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from constitute.constitution.identity import constitution_hash
from constitute.constitution.read import load_constitution
from constitute.errors import ConstituteError, DataError
from constitute.evals.run import SetResult, load_results
from constitute.files import read_json, read_log
from constitute.store import FILE_NAME
from constitute.store.manifest import kept_constitution
from constitute.types import Constitution, Record

TRAINERS = ("sft", "reward", "dpo", "best-of-n", "ppo", "grpo")
# What a trainer leaves: what made the model and its figures, and metrics as it goes.
_RECORDS = ("training.json", "best_of_n.json")
_METRICS, _FINDINGS = "metrics.jsonl", "findings.jsonl"


class _Part(BaseModel):
    """A part of a manifest; keys that the report does not show are left out."""

    model_config = ConfigDict(frozen=True)


class MadeUnder(_Part):
    """The constitution of a run, by its name and hash."""

    name: str = ""
    hash: str = ""
    principles: dict[str, str] = {}


class MadeWith(_Part):
    """The configuration of a run."""

    model: str | None = None
    judge: str | None = None
    constitution: str | None = None
    tags: tuple[str, ...] = ()
    prompts: str | None = None


class Manifest(_Part):
    """What the report shows of a manifest."""

    constitute: str = ""
    created: str = ""
    updated: str = ""
    seed: int | None = None
    config: MadeWith = MadeWith()
    constitution: MadeUnder | None = None
    stages: dict[str, dict[str, Any]] = {}
    versions: dict[str, str] = {}


class Training(Record):
    """What a trainer left in a folder of the run: its kind, its summary and the lines of its metrics.

    `noted` are the warnings that it gave while it ran.
    """

    name: str
    kind: str
    summary: dict[str, Any]
    metrics: list[dict[str, Any]]
    noted: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What the trainer found wrong with its own result; empty where nothing."""
        found = self.summary.get("verdict")
        return found if isinstance(found, str) else ""


class RunFiles(Record):
    """The run's files; `constitution` only if it is still the one the run used.

    `written` is when the last of them was, in seconds since 1970.
    """

    name: str
    written: float
    manifest: Manifest
    summary: dict[str, Any]
    training: tuple[Training, ...]
    results: tuple[SetResult, ...]
    constitution: Constitution | None
    constitution_note: str


def read_run(run_dir: Path) -> RunFiles:
    """Everything the report needs beside the store. Raises `DataError` for a file that is damaged."""
    path = run_dir / "manifest.json"
    try:
        held = _object(path)
        manifest = Manifest.model_validate(held)
    except ValidationError as problem:
        where = ".".join(str(part) for part in problem.errors()[0]["loc"])
        raise DataError(f"{path}: {where} is not what a manifest holds; run a data stage again") from None
    constitution, note = _constitution(held, manifest)
    return RunFiles(
        name=run_dir.resolve().name,
        written=_written(run_dir),
        manifest=manifest,
        summary=_object(run_dir / "summary.json"),
        training=trainings(run_dir),
        results=tuple(load_results(run_dir)),
        constitution=constitution,
        constitution_note=note,
    )


def _constitution(held: dict[str, Any], manifest: Manifest) -> tuple[Constitution | None, str]:
    """The constitution from the manifest, else from its file if that is still what the manifest says."""
    kept = kept_constitution(held)
    if kept is not None:
        return kept, ""
    noted, name = manifest.constitution, manifest.config.constitution
    if not noted or not name:
        return None, ""
    try:
        found = load_constitution(name, manifest.config.tags)
    except (ConstituteError, OSError):
        return None, f"{name} can no longer be read, so principles are shown without their text."
    if constitution_hash(found) != noted.hash:
        return None, f"{name} has changed since this run, so principles are shown without their text."
    return found, ""


def trainings(run_dir: Path) -> tuple[Training, ...]:
    """What each trainer left in the run, in the order of the loop."""
    return tuple(_training(run_dir, folder) for folder in _trained(run_dir))


def _trained(run_dir: Path) -> list[Path]:
    """Folders that a trainer wrote, in the order of the loop and then by name."""
    names = (*_RECORDS, _METRICS)
    found = {
        path.parent for depth in ("*", "*/*") for name in names for path in run_dir.glob(f"{depth}/{name}")
    }

    def rank(folder: Path) -> tuple[int, str]:
        first = folder.relative_to(run_dir).parts[0]
        return (TRAINERS.index(first) if first in TRAINERS else len(TRAINERS), str(folder))

    return sorted(found, key=rank)


def _written(run_dir: Path) -> float:
    """When a row, a figure or a result was last written; the report itself and copies of models are none."""
    store = run_dir / FILE_NAME
    files = [
        store,
        run_dir / "manifest.json",
        run_dir / "summary.json",
        *run_dir.glob("evals/results/*.json"),
    ]
    files += [folder / name for folder in _trained(run_dir) for name in (*_RECORDS, _METRICS)]
    # Rows not yet moved to the store's file; a reader alone leaves it empty.
    wal = store.with_name(f"{FILE_NAME}-wal")
    files += [wal] if wal.is_file() and wal.stat().st_size else []
    return max((path.stat().st_mtime for path in files if path.is_file()), default=0.0)


def _noted(folder: Path) -> tuple[str, ...]:
    """What the trainer warned of while it ran, a sentence each."""
    found = (line.get("finding") for line in read_log(folder / _FINDINGS))
    wanted = [one for one in found if isinstance(one, dict) and one.get("severity") in ("warning", "stop")]
    return tuple(dict.fromkeys(str(one.get("sentence", "")) for one in wanted))


def _training(run_dir: Path, folder: Path) -> Training:
    record: dict[str, Any] = next((_object(folder / n) for n in _RECORDS if (folder / n).is_file()), {})
    name = folder.relative_to(run_dir).as_posix()
    made_by, summary = record.get("made_by"), record.get("summary")
    kind = made_by.get("kind") if isinstance(made_by, dict) else None
    return Training(
        name=name,
        kind=str(kind or name),
        summary=summary if isinstance(summary, dict) else {},
        metrics=read_log(folder / _METRICS),
        noted=_noted(folder),
    )


def _object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds, empty where there is no such file."""
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object; remove it or make it again")
    return value
