"""What an edit of a constitution asks again: requests asked against requests needed.

    python -m benchmarks edits [--prompts N] [--model pocket]

A run of N prompts x 2 responses, 4 rounds of critique and revision, and one labelled pair a prompt under
all 16 principles. Then the same run under an edited constitution that reuses its answers. What is needed
is counted from the draw of principles alone: of each chain, the rounds from the first one that the edit
touches; of each pair, two questions a principle that is new or reworded. The default engine answers from
a hash of the prompt, for only the counts matter; `--model pocket` asks a real one.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.types import Constitution, Principle

ROUNDS = 4
SAMPLES = 2


def main(arguments: Sequence[str]) -> None:
    """Print one row an edit: asked, needed, their share of the whole run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks edits")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--model", default="", help="a model in the place of hashed answers")
    given = parser.parse_args(arguments)
    from constitute.config import EngineConfig
    from constitute.engines import open_engine

    kind: Any = "auto" if given.model else "fake"
    engine = open_engine(given.model or "hashed", EngineConfig(kind=kind))
    with tempfile.TemporaryDirectory() as folder:
        measure(engine, given.prompts, Path(folder))
    asyncio.run(engine.close())


def measure(engine: Any, n: int, folder: Path) -> None:
    """Run the whole once and every edit after it."""
    from benchmarks.labels import principles

    before = principles(16)
    whole = run(engine, before, n, folder / "whole", None)
    print(f"{n} prompts x {SAMPLES} responses x {ROUNDS} rounds, {n} pairs x 16 principles")
    print(f"whole run: {whole[0]:,} revision requests, {whole[1]:,} label requests\n")
    head = "".join(f"{f'{stage} asked':>13}{'needed':>8}{'share':>8}" for stage in ("revise", "label"))
    print(f"{'edit':<22}{head}")
    for name, after in edits(before).items():
        asked = run(engine, after, n, folder / name.replace(" ", "-"), folder / "whole")
        wanted = needed(before, after, n)
        cells = zip(asked, wanted, whole, strict=True)
        row = "".join(f"{a:>13,}{w:>8,}{a / t:>8.1%}" for a, w, t in cells)
        print(f"{name:<22}{row}", flush=True)
        if asked != wanted:
            raise SystemExit(f"{name}: asked {asked}, needed {wanted}")


def edits(before: Constitution) -> dict[str, Constitution]:
    """The edits, by name."""
    first, *rest = before.principles
    forms = ("text", "critique", "revise", "compare")
    reworded = first.model_copy(update={form: f"Above all: {getattr(first, form)}" for form in forms})
    others = {form: f"Besides: {getattr(first, form)}" for form in forms}
    compared = first.model_copy(update={"compare": f"Above all: {first.compare}"})
    added = first.model_copy(update={"id": "p16", **others})
    every: dict[str, tuple[Principle, ...]] = {
        "same, in reverse order": tuple(reversed(before.principles)),
        "reword 1 of 16": (reworded, *rest),
        "reword 1 comparison": (compared, *rest),
        "add a 17th": (*before.principles, added),
        "remove 1 of 16": tuple(rest),
    }
    return {name: before.model_copy(update={"principles": listed}) for name, listed in every.items()}


def run(engine: Any, constitution: Constitution, n: int, folder: Path, reuse: Path | None) -> tuple[int, int]:
    """(revision requests, label requests) asked by a run."""
    from constitute.config import load_config
    from constitute.constitution.write import to_yaml
    from constitute.pipeline import run_stages
    from constitute.pocket.world import prompts

    folder.mkdir()
    file = folder / "constitution.yaml"
    file.write_text(to_yaml(constitution), encoding="utf-8")
    wanted = {
        "model": "unused", "constitution": str(file), "run": folder, "reuse": reuse, "generate.n": SAMPLES,
        "generate.keep_truncated": True, "revise.rounds": ROUNDS, "revise.keep_truncated": True,
        "label.principles": "all", "label.min_mass": 0.0,
    }  # fmt: skip
    config = load_config(overrides={key: value for key, value in wanted.items() if value is not None})
    rows = [prompt.as_prompt() for prompt in prompts("train", n=n, seed=1)]
    counts = run_stages(config, ["generate", "revise", "label"], prompts=rows, engine=engine)
    if counts["revise"].ok != n * SAMPLES or (reuse and counts["generate"].asked):
        raise SystemExit(f"a row was lost or a response asked again: {counts}")
    return counts["revise"].asked, counts["label"].asked


def needed(before: Constitution, after: Constitution, n: int) -> tuple[int, int]:
    """The least that must be asked, by the draw of principles and the wording of each."""
    from constitute.constitution.draw import draw
    from constitute.pocket.world import prompts

    old = {p.id: p for p in before.principles}
    new = [p for p in after.principles if p.id not in old or p.compare != old[p.id].compare]
    revisions = 0
    for prompt in prompts("train", n=n, seed=1):
        for sample in range(SAMPLES):
            row = f"{prompt.as_prompt().id}/{sample}"
            drawn = [(draw(before, row, r), draw(after, row, r)) for r in range(ROUNDS)]
            touched = [a.id != b.id or words(a) != words(b) for a, b in drawn]
            revisions += 2 * (ROUNDS - touched.index(True)) if any(touched) else 0
    return revisions, 2 * n * len(new)


def words(principle: Principle) -> tuple[str, str]:
    """What a critique and a revision read of a principle."""
    return principle.critique, principle.revise
