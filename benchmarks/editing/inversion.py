"""Invert one principle and see which labels flip, checked by pocket's oracle.

    python -m benchmarks editing.inversion [--pairs N] [--engine vllm|transformers]

First `pocket/constitutions/harmless.yaml` with one principle drawn for each pair: one word of one principle's
comparison is turned round, and `diff` must show flips on the pairs that drew it and differ in harm, and on
no other. Then a constitution with a principle for each of five axes, all voting: each is turned round in
its turn, and the flips must fall on the pairs that differ on its axis alone. Every figure has its n and its
95 % Wilson interval.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.types import Comparison, Constitution, Principle

TURNS = (  # how the openings of comparisons are turned round, see pocket/opposites.py
    ("less likely to", "more likely to"),
    ("does less to", "does more to"),
    ("that does not", "that does"),
    ("that never", "that always"),
    ("in which nothing", "in which something"),
    ("if it must not", "if it must"),
)


def main(arguments: Sequence[str]) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks editing.inversion")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--engine", default="auto", choices=("auto", "vllm", "transformers"))
    given = parser.parse_args(arguments)
    import asyncio

    from constitute.config import EngineConfig
    from constitute.engines import open_engine

    engine: Any = open_engine("pocket", EngineConfig(kind=given.engine))
    with tempfile.TemporaryDirectory() as folder:
        one_drawn(engine, given.pairs, Path(folder))
        all_vote(engine, given.pairs // 2, Path(folder))
    asyncio.run(engine.close())


def one_drawn(engine: Any, n: int, folder: Path) -> None:
    """`harmless.yaml`, one principle a pair; the inverted one is the first that most pairs drew."""
    from constitute.constitution.draw import draw
    from constitute.constitution.read import load_constitution

    before = load_constitution("pocket/harmless")
    pairs, harm = mixed_pairs(n, kind="harmful")
    drew = {pair.id: draw(before, pair.id, 0).id for pair in pairs}
    edited = before.principles[0].id
    found = differ(engine, pairs, before, invert(before, edited), folder / "one", "one")
    about = [pair.id for pair in pairs if drew[pair.id] == edited and "harmful" in harm[pair.id]]
    tied = [pair.id for pair in pairs if drew[pair.id] == edited and "harmful" not in harm[pair.id]]
    others = [pair.id for pair in pairs if drew[pair.id] != edited]
    print(f"harmless.yaml, {n} pairs, one principle drawn a pair, {edited} inverted")
    print(f"{found.questions} questions asked of the {2 * n} that labelling anew would take")
    row("drew it, differ in harm", found, about)
    row("drew it, alike in harm (p near 1/2)", found, tied)
    row("drew another", found, others)


def all_vote(engine: Any, n: int, folder: Path) -> None:
    """A principle for each axis, all voting; pairs that differ on exactly one axis."""
    from constitute.pocket.replies import AXES
    from constitute.pocket.wordings import draw_principle

    rng = random.Random("inversion")
    before = Constitution(name="five", principles=tuple(draw_principle(rng, axis, False) for axis in AXES))
    pairs, differs = mixed_pairs(n, one_axis=True)
    print(f"\na principle for each axis, all voting, {n} pairs that differ on one axis alone")
    for axis in AXES:
        found = differ(engine, pairs, before, invert(before, axis), folder / axis, "all")
        about = [p.id for p in pairs if differs[p.id] == {axis}]
        row(f"{axis} inverted: pairs about it", found, about)
        own_vote(axis, found, about)
        row("  pairs about another axis", found, [p.id for p in pairs if differs[p.id] != {axis}])


def differ(
    engine: Any, pairs: Sequence[Comparison], before: Constitution, after: Constitution, run: Path, vote: str
) -> Any:
    """Label the pairs under `before` as a run does, then `diff` against `after`."""
    from constitute.config import load_config
    from constitute.constitution.write import to_yaml
    from constitute.editing.diff.run import diff_constitutions
    from constitute.pipeline import run_stages

    run.mkdir()
    file = run / "before.yaml"
    file.write_text(to_yaml(before), encoding="utf-8")
    wanted = {"model": "pocket", "constitution": str(file), "run": run, "label.principles": vote}
    config = load_config(overrides=wanted)
    run_stages(config, ["label"], pairs=pairs, engine=engine)
    return diff_constitutions(config, before, after, engine=engine)


def invert(constitution: Constitution, identity: str) -> Constitution:
    """The constitution with a word or two of one principle's comparison turned round."""

    def turned(principle: Principle) -> Principle:
        for old, new in TURNS:
            if old in principle.compare:
                return principle.model_copy(update={"compare": principle.compare.replace(old, new, 1)})
        raise SystemExit(f"no way to turn {principle.compare!r} round")

    listed = tuple(turned(p) if p.id == identity else p for p in constitution.principles)
    return constitution.model_copy(update={"principles": listed})


def mixed_pairs(
    n: int, one_axis: bool = False, kind: str = "mixed"
) -> tuple[list[Comparison], dict[str, set[str]]]:
    """Pairs of replies to held-out prompts, and the axes on which the oracle sees them differ."""
    from constitute.pocket import oracle, replies, world

    rng = random.Random("inversion-pairs")
    pairs: list[Comparison] = []
    differs: dict[str, set[str]] = {}
    asked = world.prompts("test", kind=kind, n=40 * n, seed=9)  # type: ignore[arg-type]
    for at, prompt in enumerate(asked):
        a = replies.draw_reply(rng, prompt.ask, replies.ANY)
        axis = rng.choice(replies.AXES)
        b = replies.revise(rng, prompt.ask, a, axis) if one_axis or rng.random() < 0.5 else None
        b = b or replies.draw_reply(rng, prompt.ask, replies.ANY)
        if rng.random() < 0.5:
            a, b = b, a
        seen = [oracle.read(prompt.text, reply.text()) for reply in (a, b)]
        found = {x for x in replies.AXES if oracle.violates(seen[0], x) != oracle.violates(seen[1], x)}
        if a.text() == b.text() or (one_axis and len(found) != 1):
            continue
        name = f"pair-{at}"
        pairs.append(Comparison(id=name, prompt=prompt.as_prompt(), a=a.text(), b=b.text()))
        differs[name] = {str(x) for x in found}
        if len(pairs) == n:
            return pairs, differs
    raise SystemExit(f"only {len(pairs)} pairs found; give a smaller --pairs")


def own_vote(axis: str, found: Any, wanted: Sequence[str]) -> None:
    """One line: how often the inverted principle's own vote changed sides."""
    from constitute.stats import wilson

    sides = [
        (part.before > 0.5) != (part.after > 0.5)
        for pair in found.pairs
        if pair.comparison.id in set(wanted)
        for part in pair.parts
        if part.principle_id == axis
    ]
    low, high = wilson(sum(sides), len(sides))
    share = sum(sides) / max(1, len(sides))
    count = f"{sum(sides):>5} of {len(sides):<5}{share:>7.1%}"
    print(f"{'  its own vote changes sides':<38}{count} ({low:.1%} to {high:.1%})")


def row(name: str, found: Any, wanted: Sequence[str]) -> None:
    """One line: how many of the wanted pairs flipped, and the mean change of P(A)."""
    from constitute.stats import wilson

    chosen = [pair for pair in found.pairs if pair.comparison.id in set(wanted) and pair.before is not None]
    flips = sum(pair.flips for pair in chosen)
    low, high = wilson(flips, len(chosen))
    moved = sum(abs(pair.change) for pair in chosen) / max(1, len(chosen))
    share = flips / max(1, len(chosen))
    print(
        f"{name:<38}{flips:>5} of {len(chosen):<5}{share:>7.1%} ({low:.1%} to {high:.1%})  "
        f"mean |change| {moved:.3f}",
        flush=True,
    )
