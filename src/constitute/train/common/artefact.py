"""A trained model's folder: what made it, its model card, and whether it is already there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from constitute import __version__
from constitute.errors import RunMismatch

_RECORD = "training.json"
_SAMPLED_BYTES = 1 << 20
_FREE = frozenset(
    {
        "checkpoint_every",
        "device_batch_size",
        "gradient_checkpointing",
        "keep_policies",
        "microbatch_tokens",
        "report_to",
        "samples_kept",
        "save_rollouts",
    }
)


def versions() -> dict[str, str]:
    """Versions of what trains."""
    found = {"constitute": __version__}
    for name in ("torch", "transformers", "trl", "accelerate", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def model_fingerprint(model: str) -> str:
    """Identity of a model: a local folder by its configuration and weights, a Hub name by itself.

    Weights enter by name, size and their first and last mebibyte, so that large ones stay cheap.
    """
    folder = Path(model)
    if not folder.is_dir():
        return model
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".safetensors", ".json", ".jinja", ".model") or file.name == _RECORD:
            continue
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as content:
            digest.update(content.read(_SAMPLED_BYTES))
            if size > _SAMPLED_BYTES:
                content.seek(max(_SAMPLED_BYTES, size - _SAMPLED_BYTES))
                digest.update(content.read())
    return digest.hexdigest()[:16]


def recipe(kind: str, config: Any, seed: int, **inputs: str) -> dict[str, Any]:
    """What determines a trained model: the trainer, its settings, the seed and the inputs' hashes.

    Settings of memory and of what is written down are left out: they change no result beyond rounding,
    and a run that ran out of memory must be able to go on with less.
    """
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name not in _FREE}
    return {"kind": kind, "config": settings, "seed": seed, "inputs": inputs}


def finished(out: Path, made_by: dict[str, Any]) -> dict[str, Any] | None:
    """The summary of the model in `out` if `made_by` made it, None where there is none yet.

    Raises `RunMismatch` for a model made by other settings or inputs: it is never overwritten.
    """
    record = out / _RECORD
    if not record.is_file():
        return None
    stored = json.loads(record.read_text(encoding="utf-8"))
    check_recipe(out, stored["made_by"], made_by)
    summary: dict[str, Any] = stored["summary"]
    return summary


def check_recipe(out: Path, stored: dict[str, Any], made_by: dict[str, Any]) -> None:
    """Raise `RunMismatch`, naming what differs, unless both recipes are the same."""
    if stored == made_by:
        return
    flat_stored, flat_new = _flat(stored), _flat(made_by)
    names = sorted(name for name in flat_stored | flat_new if flat_stored.get(name) != flat_new.get(name))
    raise RunMismatch(
        f"{out} was made with other settings ({', '.join(names)} differ); "
        "give another --out, or remove the folder to train again"
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def publish(
    out: Path, save: Callable[[Path], None], *, made_by: dict[str, Any], summary: dict[str, Any], base: str
) -> None:
    """Write a model's folder file by file, the record of its recipe last, so that a torn folder shows."""
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(".saving-*"):
        # What a killed save left behind.
        shutil.rmtree(left, ignore_errors=True)
    staging = out / f".saving-{uuid.uuid4().hex[:8]}"
    staging.mkdir()
    try:
        save(staging)
        write_card(staging, made_by, summary, base)
        for file in sorted(staging.iterdir()):
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    write_json(out / _RECORD, {"made_by": made_by, "versions": versions(), "summary": summary})


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is either the old one or the whole new one, even after a power cut."""
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, allow_nan=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


_TITLES = {
    "sft": "a model fine-tuned on revisions (supervised, constitutional)",
    "reward": "a reward model trained on soft AI preference labels",
    "best-of-n": "a model fine-tuned on the best of n samples (rejection sampling)",
    "dpo": "a policy trained by direct preference optimisation on soft AI preference labels",
    "ppo": "a policy trained by PPO with AI feedback",
}


def write_card(folder: Path, made_by: dict[str, Any], summary: dict[str, Any], base: str) -> None:
    """Write the model card: what the model is, its figures, and the recipe that made it."""
    (folder / "README.md").write_text(_card(made_by, summary, base), encoding="utf-8")


def _card(made_by: dict[str, Any], summary: dict[str, Any], base: str) -> str:
    figures = json.dumps(summary, indent=2)
    recipe_text = json.dumps(made_by, indent=2)
    libraries = ", ".join(f"{name} {number}" for name, number in versions().items())
    return (
        f"---\nlibrary_name: transformers\nbase_model: {json.dumps(Path(base).name)}\n"
        f"tags: [constitute, rlaif]\n---\n\n# {made_by['kind']}: {_TITLES[made_by['kind']]}\n\n"
        f"Base model: `{base}`. Made by {libraries}.\n\n"
        f"## Figures\n```json\n{figures}\n```\n\n## Recipe\n```json\n{recipe_text}\n```\n"
    )
