"""Environments of the peers, each in a folder of its own with pinned versions.

distilabel's holds the locked versions of what it and this project both need.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PINS = {"distilabel": "distilabel[openai]==1.5.3", "designer": "data-designer==0.9.7"}
_LOCK = Path(__file__).parents[3] / "requirements" / "cpu.lock"


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter of a peer's environment in `folder`, made and filled where it is not ready."""
    home = folder / peer
    python, ready = home / "bin" / "python", home / f"{_plain(PINS[peer])}.ready"
    if ready.exists():
        return python
    print(f"making an environment with {PINS[peer]} in {home}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    wanted = [PINS[peer]]
    if peer == "distilabel":
        pins = home / "locked.txt"
        found = re.findall(r"^[\w.-]+==[\w.+]+", _LOCK.read_text(), flags=re.MULTILINE)
        pins.write_text("\n".join(found) + "\n", encoding="utf-8")
        # It imports requests and does not say so.
        wanted += ["requests", "-c", str(pins)]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted], check=True)
    ready.touch()
    return python


def _plain(pin: str) -> str:
    return re.sub(r"\[.*\]", "", pin).replace("==", "-")
