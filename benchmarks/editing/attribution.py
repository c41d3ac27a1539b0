"""Does `attribute` name the right principle: pairs that differ on one axis, checked by pocket's oracle.

    python -m benchmarks editing.attribution [--pairs N] [--engine vllm|transformers]

Five principles, one an axis, in wordings that pocket's training held out, all vote on every pair. A pair is
right where the one principle that decides it is the one of the axis on which the oracle sees the pair
differ; nobody, or two at once, counts as wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.editing.inversion import mixed_pairs
from constitute.types import Constitution


def main(arguments: Sequence[str]) -> None:
    """Print the share of pairs attributed to the right principle, in all and by axis, with intervals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks editing.attribution")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--engine", default="auto", choices=("auto", "vllm", "transformers"))
    given = parser.parse_args(arguments)
    from constitute.config import EngineConfig, LabelConfig
    from constitute.editing.attribute.figures import attribute
    from constitute.editing.votes import vote
    from constitute.engines import open_engine
    from constitute.pocket.replies import AXES
    from constitute.pocket.wordings import draw_principle
    from constitute.store import Store

    rng = random.Random("attribution")
    every = Constitution(name="five", principles=tuple(draw_principle(rng, axis, False) for axis in AXES))
    pairs, differs = mixed_pairs(given.pairs, one_axis=True)
    engine: Any = open_engine("pocket", EngineConfig(kind=given.engine))
    with tempfile.TemporaryDirectory() as folder, Store.open(folder) as store:
        voted = asyncio.run(vote(pairs, every, engine, store, LabelConfig(principles="all")))
    asyncio.run(engine.close())
    found = {column.id: column.deciders for column in attribute(voted.labelled).columns}
    print(f"{len(pairs)} pairs that differ on one axis, {len(voted.without)} without a label")
    for axis in (None, *AXES):
        about = [name for name, axes in differs.items() if axis is None or axes == {axis}]
        row(axis or "all", [differs[name] == set(found.get(name, ())) for name in about])
    print(f"decided by nobody: {sum(not found.get(name) for name in differs)}")


def row(name: str, hits: Sequence[bool]) -> None:
    """One line of the table."""
    from constitute.stats import wilson

    low, high = wilson(sum(hits), len(hits))
    share = sum(hits) / max(1, len(hits))
    print(f"{name:<10}{sum(hits):>5} of {len(hits):<5}{share:>7.1%} ({low:.1%} to {high:.1%})")
