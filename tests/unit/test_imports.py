"""Who may import whom, and which room may touch which heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

SRC = ROOT / "src" / "constitute"

GROUND = {
    "types",
    "errors",
    "stats",
    "moments",
    "significance",
    "files",
    "progress",
    "packaged",
    "templates",
    "strict_yaml",
    "urls",
    "hh",
    "blocking",
    "registry",
    "threads",
    "text",
    "clock",
}
EDGES = GROUND | {"config", "constitution", "store"}
INPUTS = EDGES | {"data", "engines", "stages"}
DRIVER = INPUTS | {"pipeline"}
SUBJECTS = DRIVER | {"editing", "evals", "handoff", "judge", "prompts", "review", "runners", "train"}
# Folder or file of ours -> what it may import besides itself. One not listed is an error: decide first.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": SUBJECTS | {"report", "loop"},
    "__main__": {"cli"},
    **{name: GROUND - {name} for name in GROUND},
    "config": GROUND,
    "constitution": GROUND | {"config"},
    "store": GROUND | {"config", "constitution"},
    "engines": EDGES,
    # What is exported says what its labels are worth.
    "data": EDGES | {"stages"},
    "stages": EDGES,
    "pipeline": INPUTS,
    "runners": DRIVER,
    "editing": DRIVER,
    "judge": DRIVER,
    "review": DRIVER,
    "evals": DRIVER,
    "prompts": DRIVER,
    "train": DRIVER,
    # It says in another trainer's words what ours would do.
    "handoff": DRIVER | {"train"},
    # A page shows the records of the other subjects as they are.
    "report": SUBJECTS,
    "loop": SUBJECTS | {"report", "loop_train"},
    "loop_train": SUBJECTS | {"loop"},
    "pocket": SUBJECTS | {"report", "loop"},
    "smollm": SUBJECTS | {"report", "loop"},
    "cli": SUBJECTS | {"report", "loop", "pocket", "smollm"},
}
MAY_TOUCH: dict[str, set[str]] = {
    "torch": {"train", "pocket", "smollm", "engines", "threads", "handoff"},
    "trl": {"train", "pocket"},
    "transformers": {"train", "pocket", "smollm", "engines"},
    "vllm": {"engines"},
    "click": {"cli"},
    "jinja2": {"templates", "report"},
    "altair": {"report"},
    "vl_convert": {"report"},
    "sqlite3": {"store"},
    "aiohttp": {"engines", "train"},
    "ray": {"runners", "handoff"},
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


def test_vllm_only_in_its_engine_folder() -> None:
    touching = {p.parent for p in FILES if any(n.split(".")[0] == "vllm" for _, n in imports(p))}
    assert touching == {SRC / "engines" / "vllm"}


def test_no_circle_between_folders() -> None:
    """Top-level folders, and the folders inside each of them, import each other in one direction only."""
    edges: dict[str, set[str]] = {}
    for path in FILES:
        here = path.relative_to(SRC).parts
        for _, name in imports(path):
            there = name.removeprefix("constitute.").split(".")
            if not name.startswith("constitute.") or (SRC / there[0]).is_file():
                continue
            for depth in range(min(len(here), len(there))):
                if here[depth] != there[depth]:
                    one, other = "/".join(here[: depth + 1]), "/".join(there[: depth + 1])
                    if (SRC / one).is_dir() and (SRC / other).is_dir():
                        edges.setdefault(one, set()).add(other)
                    break
    assert not list(circles(edges))


def circles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """Every folder that is reached from itself, with the way."""
    for start in sorted(edges):
        ways = [[start]]
        seen: set[str] = set()
        while ways:
            way = ways.pop()
            for following in edges.get(way[-1], set()):
                if following == start:
                    yield [*way, start]
                elif following not in seen:
                    seen.add(following)
                    ways.append([*way, following])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv=['constitute','--help']\n"
        "from constitute.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch','transformers','vllm','trl','datasets','pyarrow','aiohttp','numpy','jinja2',\n"
        "'altair','vl_convert'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
