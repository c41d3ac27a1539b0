"""Seconds from a save to what `constitution preview --watch` shows of it, the engine being warm.

    python -m benchmarks editing.preview [--engine transformers|vllm] [--edits N]

A child process watches a copy of `harmless` with pocket; this one saves edits as an editor does and
reads the child's events. Each edit rewords one principle; the last three reword all of them at once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

COMMAND = (
    "import sys; from constitute.cli.constitution.preview import preview; "
    "from constitute.cli.errors import run_and_exit; sys.exit(run_and_exit(preview))"
)
ADDED = ("at all", "in any way", "in truth", "today", "with care", "in the end")
WHOLE_FILE_EDITS = 3


class Timed(NamedTuple):
    """One edit: seconds from the save to its first result and to its last event, and what it asked."""

    first: float
    all: float
    probes: int
    questions: int


def main(arguments: Sequence[str] = ()) -> None:
    """Print the median and the range over edits of one principle, and over edits of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--edits", type=int, default=14)
    options = parser.parse_args(list(arguments))
    from constitute.constitution.read import load_constitution

    given = load_constitution("pocket/harmless")
    names = [principle.id for principle in given.principles]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "harmless.yaml"
        wording = {p.id: p.critique for p in given.principles}
        _save(file, given, wording)
        child = _watch(file, options.engine)
        assert child.stdout is not None and child.stdin is not None
        opened = time.perf_counter()
        first = _until_done(child, opened)
        print(f"engine {options.engine}: opened and shown in {first.all:.1f} s, {first.questions} questions")
        one, every = [], []
        for edit in range(options.edits):
            name = names[edit % len(names)]
            wording[name] = f"{wording[name].rstrip('.')} {ADDED[edit % len(ADDED)]}."
            one.append(_edit(child, file, given, wording))
        for edit in range(WHOLE_FILE_EDITS):
            wording = {name: f"{text.rstrip('.')} {ADDED[edit]}." for name, text in wording.items()}
            every.append(_edit(child, file, given, wording))
        child.terminate()
        child.wait()
    _print("one principle", one)
    _print("all principles", every)


def _edit(child: Any, file: Path, given: Any, wording: dict[str, str]) -> Timed:
    # People pause between saves; the watcher is then back at its polling.
    time.sleep(0.37)
    saved = time.perf_counter()
    _save(file, given, wording)
    return _until_done(child, saved)


def _watch(file: Path, engine: str) -> subprocess.Popen[str]:
    options = [str(file), "--watch", "--json", "--model", "pocket", "--cache", str(file.parent / "cache")]
    options += ["--set", f"engine.kind={engine}"]
    if engine == "vllm":
        options += ["--set", "engine.kv_cache_gib=0.25"]
    command = [sys.executable, "-c", COMMAND, *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _until_done(child: subprocess.Popen[str], since: float) -> Timed:
    assert child.stdout is not None
    first = None
    for line in child.stdout:
        now = time.perf_counter() - since
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        if event["event"] == "probe" and first is None:
            first = now
        if event["event"] == "done":
            return Timed(first or now, now, event["probes_asked"], event["questions_asked"])
    raise SystemExit("the preview ended early; run it by hand to see why")


def _save(file: Path, given: Any, wording: dict[str, str]) -> None:
    from constitute.constitution.write import to_yaml

    changed = tuple(p.model_copy(update={"critique": wording[p.id]}) for p in given.principles)
    beside = file.with_suffix(".new")
    beside.write_text(to_yaml(given.model_copy(update={"principles": changed})), encoding="utf-8")
    beside.rename(file)


def _print(what: str, timed: Sequence[Timed]) -> None:
    if not timed:
        return
    cells = []
    for name, values in (
        ("save to first result", [each.first for each in timed]),
        ("to all", [each.all for each in timed]),
    ):
        cells.append(f"{name} {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})")
    probes = f"{min(t.probes for t in timed)} to {max(t.probes for t in timed)} probes"
    questions = f"{min(t.questions for t in timed)} to {max(t.questions for t in timed)} questions"
    print(f"{what}, {len(timed)} edits of {probes}, {questions}: {', '.join(cells)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
