"""How long imports of long texts take: prose of 300 kB, Markdown of 5 MB, and a list of 10,000 principles.

Prints CPU seconds to read each file, and to write the constitution and check that it loads as it is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from constitute.cli.text import table
from constitute.constitution.formats.convert import import_files
from constitute.constitution.write import loadable

TOLD = "The garden was green that year, and Dr. Moss (a friend. A good one.) said so. It had e.g. roses."


def main(arguments: list[str]) -> None:
    """Time each file `--repeats` times and print the medians with their ranges."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks editing.prose")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("files", nargs="*", type=Path, help="More files to read.")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        made = [_file(Path(folder) / name, text) for name, text in _texts().items()]
        rows = [_row(path, options.repeats) for path in [*made, *options.files]]
    print(table(["file", "kB", "principles", "examples", "read s", "written and checked s"], rows))


def _texts() -> dict[str, str]:
    prose = "\n\n".join(f"## Part {n}\n\nThe assistant must not name plant {n}. {TOLD}" for n in range(1_800))
    tale = "\n\n".join(f"## Part {n}\n\n{TOLD} {TOLD}" for n in range(22_500))
    rows = "\n".join(f"- The assistant must not say the word number {n}." for n in range(10_000))
    return {
        "prose-300kB.txt": prose,
        "markdown-5MB.md": f"{tale}\n\nThe assistant must be kind. Never lie.\n",
        "list-10000.md": rows,
    }


def _file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _row(path: Path, repeats: int) -> list[object]:
    reading, writing = [], []
    for _ in range(repeats):
        begun = time.process_time()
        imported = import_files([path])
        reading.append(time.process_time() - begun)
        begun = time.process_time()
        loadable(imported.constitution)
        writing.append(time.process_time() - begun)
    principles = imported.constitution.principles
    examples = sum(len(p.examples) for p in principles)
    size = path.stat().st_size // 1000
    return [path.name, size, len(principles), examples, _median(reading), _median(writing)]


def _median(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"{ordered[len(ordered) // 2]:.1f} ({ordered[0]:.1f}-{ordered[-1]:.1f})"
