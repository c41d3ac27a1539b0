"""An environment of its own for TRL 1.12.0, the last with a PPOTrainer, beside the versions locked for us."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TRL = "1.12.0"
TORCH = "2.13.0+cpu"
SAME = ("transformers", "tokenizers", "accelerate", "datasets", "huggingface-hub")
LOCK = Path(__file__).parents[2] / "requirements" / "cpu.lock"
_INDEX = "https://download.pytorch.org/whl/cpu"


def pins(lock: str) -> list[str]:
    """The requirements of `SAME` as the lock file pins them."""
    found = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", lock, flags=re.MULTILINE))
    return [f"{name}=={found[name]}" for name in SAME]


def python_of(folder: Path) -> Path:
    """The interpreter of the environment in `folder`, made and filled where there is none."""
    python = folder / "bin" / "python"
    ready = folder / f"trl-{TRL}.ready"
    if ready.exists() or _works(python):
        return python
    print(f"making an environment with TRL {TRL} in {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = [*pip, f"torch=={TORCH}"]
    if subprocess.run(torch, stderr=subprocess.DEVNULL).returncode:
        subprocess.run([*torch, "--index-url", _INDEX], check=True)
    subprocess.run([*pip, f"torch=={TORCH}", f"trl=={TRL}", *pins(LOCK.read_text())], check=True)
    ready.touch()
    return python


def _works(python: Path) -> bool:
    """Whether `python` is there and has this TRL."""
    if not python.exists():
        return False
    code = f"import importlib.metadata as m; raise SystemExit(m.version('trl') != '{TRL}')"
    return subprocess.run([str(python), "-c", code], stderr=subprocess.DEVNULL).returncode == 0
