"""The files that `constitute init` writes: a constitution, prompts and run.yaml that work as they are."""

from __future__ import annotations

import json
from pathlib import Path

from constitute.errors import UsageError
from constitute.files import write_text
from constitute.packaged import find
from constitute.types import Prompt

CONSTITUTION = "harmless"
_HERE = Path(__file__).parent


def starter_files(prompts: list[Prompt]) -> dict[str, str]:
    """Names and contents of the starter files, with `prompts` in the prompts file."""
    constitution = find(CONSTITUTION, "constitutions", ".yaml").read_text(encoding="utf-8")
    header = (_HERE / "constitution_header.txt").read_text(encoding="utf-8")
    return {
        "constitution.yaml": header + constitution,
        "prompts.jsonl": "".join(_line(prompt) for prompt in prompts),
        "run.yaml": (_HERE / "run.yaml").read_text(encoding="utf-8"),
    }


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


def _line(prompt: Prompt) -> str:
    return json.dumps({"id": prompt.id, "prompt": prompt.messages[-1].content}, ensure_ascii=False) + "\n"
