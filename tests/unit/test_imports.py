"""Who may import whom, and which room may touch which heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "constitute"

FOUNDATION = {
    "types",
    "errors",
    "packaged",
    "sample",
    "templates",
    "parsing",
    "config",
    "constitution",
    "draw",
    "store",
}
BASE = FOUNDATION | {"stats", "run", "progress"}
# Room -> rooms of ours it may import besides itself. A room not listed here is an error: decide first.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": BASE | {"engines", "stages", "evals", "train", "data", "report", "pipeline", "loop"},
    "__main__": {"cli"},
    "types": set(),
    "errors": set(),
    "packaged": {"errors"},
    "sample": {"types"},
    "stats": {"types", "errors"},
    "templates": {"errors", "packaged"},
    "parsing": {"types", "errors"},
    "config": {"types", "errors", "packaged", "parsing"},
    "constitution": {"types", "errors", "packaged", "templates", "parsing"},
    "draw": {"types"},
    "store": {"types", "errors"},
    "progress": {"types", "errors"},
    "run": FOUNDATION,
    "engines": BASE,
    "stages": BASE,
    "evals": BASE,
    "train": BASE,
    "data": BASE,
    "report": BASE | {"editing"},
    "editing": BASE,
    "pipeline": BASE | {"stages", "engines"},
    "loop": BASE | {"pipeline", "engines", "stages", "evals", "train", "data", "report", "editing"},
    "pocket": BASE | {"data", "loop", "pipeline", "stages", "report"},
    "cli": BASE
    | {"pipeline", "engines", "stages", "evals", "train", "data", "report", "loop", "pocket", "editing"},
}
MAY_TOUCH: dict[str, set[str]] = {
    "torch": {"train", "pocket", "engines"},
    "trl": {"train", "pocket"},
    "transformers": {"train", "pocket", "engines"},
    "vllm": {"engines"},
    "click": {"cli"},
    "jinja2": {"templates", "report"},
    "sqlite3": {"store"},
    "aiohttp": {"engines"},
}


def room_of(path: Path) -> str:
    parts = path.relative_to(SRC).parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.append((node.lineno, "constitute.<relative>"))
    return found


FILES = sorted(SRC.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_import_direction(path: Path) -> None:
    room = room_of(path)
    assert room in MAY_IMPORT, f"{room} is a new room: say in this test what it may import"
    for line, name in imports(path):
        top, *rest = name.split(".")
        if top == "constitute" and rest and rest[0] != "__version__":
            target = rest[0]
            assert target == room or target in MAY_IMPORT[room], f"{path}:{line} {room} imports {name}"
        if top in MAY_TOUCH:
            assert room in MAY_TOUCH[top], f"{path}:{line} {room} imports {name}"


def test_vllm_only_in_its_engine_files() -> None:
    touching = {p.name for p in FILES if any(n.split(".")[0] == "vllm" for _, n in imports(p))}
    assert all(name.startswith("vllm") for name in touching), touching


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv=['constitute','--help']\n"
        "from constitute.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch','transformers','vllm','trl','datasets','pyarrow','aiohttp','numpy','jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
