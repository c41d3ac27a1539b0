"""The files that `constitute init` writes: a constitution, prompts and run.yaml that work as they are."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

from constitute.errors import UsageError
from constitute.files import write_text
from constitute.packaged import CONTROLS, SMOLLM, find, packaged_files
from constitute.registry import nearest

# The template for the embedded model, which knows only its own world.
POCKET = "pocket"
DEFAULT = "assistant"
_CONSTITUTIONS = {POCKET: "pocket/harmless"}
_HERE = Path(__file__).parent


def template_names() -> list[str]:
    """What a project can start from: the constitutions of the library, and the embedded model's."""
    names = [name for name in packaged_files("constitutions", ".yaml") if "/" not in name]
    return [name for name in names if name != CONTROLS] + [POCKET]


def starter_files(template: str, model: str, prompts: str = "") -> dict[str, str]:
    """Names and contents of the starter files; `prompts`, JSONL, takes the place of the template's own.

    Raises `UsageError` for an unknown template.
    """
    if template not in template_names():
        raise UsageError(f"no such template: {template!r}; {nearest(template, template_names())}")
    constitution = find(_CONSTITUTIONS.get(template, template), "constitutions", ".yaml")
    header = (_HERE / "constitution_header.txt").read_text(encoding="utf-8")
    return {
        "constitution.yaml": header + constitution.read_text(encoding="utf-8"),
        "prompts.jsonl": prompts or (_HERE / "prompts" / f"{template}.jsonl").read_text(encoding="utf-8"),
        "run.yaml": _run_file(model),
    }


def _run_file(model: str) -> str:
    """run.yaml with values that suit the model."""
    if model in (POCKET, SMOLLM):
        return (_HERE / f"{model}.yaml").read_text(encoding="utf-8")
    text = (_HERE / "model.yaml").read_text(encoding="utf-8")
    return Template(text).substitute(MODEL=json.dumps(model))


def write_starter(folder: Path, files: dict[str, str], *, force: bool) -> list[Path]:
    """Write every file, or none where one of them exists; returns their paths.

    Raises `UsageError` naming the files that are in the way unless `force`, and `StorageError` where
    the disk refuses.
    """
    paths = [folder / name for name in files]
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise UsageError(f"{', '.join(there)} exists already; give another folder, or --force to replace it")
    for path, text in zip(paths, files.values(), strict=True):
        write_text(path, text)
    return paths
