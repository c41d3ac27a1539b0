"""What `benchmarks.data.large` does in processes of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def chain(rows: int) -> None:
    """generate → revise → label of `rows` prompts with the fake engine."""
    from constitute.config import load_config
    from constitute.engines.fake import FakeEngine
    from constitute.pipeline import run_stages
    from constitute.types import Message, Prompt

    def prompts() -> Iterator[Prompt]:
        for at in range(rows):
            text = f"What do people say of number {at}? " + "Say it in plain words, please. " * 4
            yield Prompt(id=f"p{at}", messages=(Message(role="user", content=text),))

    with tempfile.TemporaryDirectory() as folder:
        wanted = {
            "model": "fake",
            "constitution": "assistant",
            "run": folder,
            "label.pairs": "revision",
            "label.principles": 4,
        }
        config = load_config(overrides=wanted)
        engine = FakeEngine("fake", config.engine)
        run_stages(config, ["generate", "revise", "label"], prompts=list(prompts()), engine=engine)


def main(arguments: list[str]) -> None:
    """Do what the words say; prints the number of rows of a file."""
    from benchmarks.data.synthetic import write_file, write_run

    what, *given = arguments
    if what == "run":
        write_run(Path(given[0]), int(given[1]), first=int(given[2]), answers=int(given[1]) <= 100_000)
    elif what == "file":
        print(write_file(Path(given[0]), int(given[1])))
    else:
        chain(int(given[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
