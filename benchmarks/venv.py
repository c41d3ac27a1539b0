"""An environment of its own for a package to compare with, beside the versions locked for us."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TORCH = "2.13.0+cpu"
LOCK = Path(__file__).parents[1] / "requirements" / "cpu.lock"
_INDEX = "https://download.pytorch.org/whl/cpu"


def pins(lock: str, names: Sequence[str]) -> list[str]:
    """The requirements of `names` as the lock file pins them."""
    found = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", lock, flags=re.MULTILINE))
    return [f"{name}=={found[name]}" for name in names]


def python_of(folder: Path, package: str, version: str, same: Sequence[str], extra: str = "") -> Path:
    """The interpreter of the environment in `folder` with `package`, made and filled where there is none.

    `same` names packages that are to have our versions; `extra` is such as `[hf]`.
    """
    python = folder / "bin" / "python"
    ready = folder / f"{package}-{version}.ready"
    if ready.exists() or _works(python, package, version):
        return python
    print(f"making an environment with {package} {version} in {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = [*pip, f"torch=={TORCH}"]
    if subprocess.run(torch, stderr=subprocess.DEVNULL).returncode:
        subprocess.run([*torch, "--index-url", _INDEX], check=True)
    ours = pins(LOCK.read_text(), same)
    subprocess.run([*pip, f"torch=={TORCH}", f"{package}{extra}=={version}", *ours], check=True)
    ready.touch()
    return python


def _works(python: Path, package: str, version: str) -> bool:
    """Whether `python` is there and has this version."""
    if not python.exists():
        return False
    code = f"import importlib.metadata as m; raise SystemExit(m.version('{package}') != '{version}')"
    return subprocess.run([str(python), "-c", code], stderr=subprocess.DEVNULL).returncode == 0
