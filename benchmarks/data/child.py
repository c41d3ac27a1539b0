"""What `benchmarks.data.large` does in processes of its own."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path


def chain(rows: int) -> None:
    """generate → revise → label of a file of `rows` prompts with the fake engine."""
    from constitute.config import load_config
    from constitute.data import prompts
    from constitute.engines.fake import FakeEngine
    from constitute.pipeline import run_stages

    # Before there was `open_prompts`, all prompts were read at once.
    read = getattr(prompts, "open_prompts", lambda path: prompts.read_prompts(path)[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for at in range(rows):
                text = f"What do people say of number {at}? " + "Say it in plain words, please. " * 4
                file.write(json.dumps({"prompt": text}) + "\n")
        wanted = {
            "model": "fake",
            "constitution": "assistant",
            "run": folder,
            "label.pairs": "revision",
            "label.principles": 4,
        }
        config = load_config(overrides=wanted)
        engine = FakeEngine("fake", config.engine)
        run_stages(config, ["generate", "revise", "label"], prompts=read(path), engine=engine)


def read_pairs(path: str) -> int:
    """Go through a file as `label --pairs` does; returns the pairs."""
    from constitute.data import pairs

    read = getattr(pairs, "open_pairs", lambda path: pairs.read_pairs(path)[0])
    return sum(1 for _ in read(path))


def read_prompts(path: str) -> int:
    """Go through a file as `generate` does; returns the prompts."""
    from constitute.data import prompts

    read = getattr(prompts, "open_prompts", lambda path: prompts.read_prompts(path)[0])
    return sum(1 for _ in read(path))


def main(arguments: list[str]) -> None:
    """Do what the words say; prints the number of rows of a file."""
    what, *given = arguments
    if what in ("run", "file"):
        from benchmarks.data.synthetic import write_file, write_run
    if what == "run":
        write_run(Path(given[0]), int(given[1]), first=int(given[2]), answers=int(given[1]) <= 100_000)
    elif what == "file":
        print(write_file(Path(given[0]), int(given[1])))
    elif what == "pairs":
        read_pairs(given[0])
    elif what == "prompts":
        read_prompts(given[0])
    else:
        chain(int(given[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
