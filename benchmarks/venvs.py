"""Environments of their own for other programs, beside the versions that are locked for us."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TORCH = "2.13.0+cpu"
LOCK = Path(__file__).parents[1] / "requirements" / "cpu.lock"
_INDEX = "https://download.pytorch.org/whl/cpu"


def pins(names: Sequence[str], lock: str | None = None) -> list[str]:
    """The requirements of `names` as the lock file pins them."""
    text = LOCK.read_text() if lock is None else lock
    found = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", text, flags=re.MULTILINE))
    return [f"{name}=={found[name]}" for name in names]


def python_of(folder: Path, package: str, extras: Sequence[str] = (), *, torch: bool = False) -> Path:
    """The interpreter of the environment in `folder`, made and filled where there is none.

    `package` is pinned, as `trl==1.12.0`; `extras` are further requirements. With `torch`, the CPU build
    that we are locked to is put in first.
    """
    python = folder / "bin" / "python"
    name, version = package.split("==")
    bare = name.partition("[")[0]
    ready = folder / f"{bare}-{version}.ready"
    if ready.exists() or _works(python, bare, version):
        return python
    print(f"making an environment with {package} in {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if torch:
        built = [*pip, f"torch=={TORCH}"]
        if subprocess.run(built, stderr=subprocess.DEVNULL).returncode:
            subprocess.run([*built, "--index-url", _INDEX], check=True)
    subprocess.run([*pip, *([f"torch=={TORCH}"] if torch else []), package, *extras], check=True)
    ready.touch()
    return python


def _works(python: Path, name: str, version: str) -> bool:
    """Whether `python` is there and has this version of the package."""
    if not python.exists():
        return False
    code = f"import importlib.metadata as m; raise SystemExit(m.version({name!r}) != {version!r})"
    return subprocess.run([str(python), "-c", code], stderr=subprocess.DEVNULL).returncode == 0
