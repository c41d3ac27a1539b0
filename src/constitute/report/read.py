"""Read what lies beside the store in a run directory; each file may be missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from constitute.constitution.read import constitution_hash, load_constitution
from constitute.errors import ConstituteError, DataError
from constitute.store.manifest import kept_constitution
from constitute.types import Constitution, Record

TRAINERS = ("sft", "reward", "ppo")
Metrics = list[dict[str, Any]]


class RunFiles(Record):
    """The run's files as plain JSON values; `constitution` only if it is still the one the run used."""

    name: str
    manifest: dict[str, Any]
    summary: dict[str, Any]
    metrics: dict[str, Metrics]
    results: tuple[dict[str, Any], ...]
    constitution: Constitution | None
    constitution_note: str


def read_run(run_dir: Path) -> RunFiles:
    """Everything the report needs beside the store. Raises `DataError` for a file that is not JSON."""
    manifest = _json(run_dir / "manifest.json")
    constitution, note = _constitution(manifest, run_dir)
    metrics = {name: _lines(run_dir / name / "metrics.jsonl") for name in TRAINERS}
    results = tuple(_json(path) for path in sorted((run_dir / "evals" / "results").glob("*.json")))
    return RunFiles(
        name=run_dir.resolve().name,
        manifest=manifest,
        summary=_json(run_dir / "summary.json"),
        metrics={name: lines for name, lines in metrics.items() if lines is not None},
        results=results,
        constitution=constitution,
        constitution_note=note,
    )


def _constitution(manifest: dict[str, Any], run_dir: Path) -> tuple[Constitution | None, str]:
    """The constitution from the manifest, else from its file if that is still what the manifest says."""
    kept = kept_constitution(manifest)
    if kept is not None:
        return kept, ""
    noted = manifest.get("constitution")
    config = manifest.get("config") or {}
    name = config.get("constitution")
    if not noted or not name:
        return None, ""
    try:
        found = load_constitution(name, config.get("tags", ()))
    except (ConstituteError, OSError):
        return None, f"{name} can no longer be read, so principles are shown without their text."
    if constitution_hash(found) != noted.get("hash"):
        return None, f"{name} has changed since this run, so principles are shown without their text."
    return found, ""


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(
            f"{path} is not JSON; remove it or make it again, then ask for the report again"
        ) from None
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object; remove it or make it again")
    return value


def _lines(path: Path) -> Metrics | None:
    """Metrics, one object a line; a last line that is still being written is left out."""
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").split("\n")
    values: Metrics = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            if number == len(lines):
                break
            raise DataError(f"{path}:{number}: not JSON; train again or remove the line") from None
        if isinstance(value, dict):
            values.append(value)
    return values
