"""Whether the model's lint finds planted faults of a constitution, and nothing else.

    python -m benchmarks.editing.lint_model [--model pocket] [--kind auto] [--seeds N] [--first N] [--pairs N]
    python -m benchmarks.editing.lint_model --model reader

`reader` is no model: it reads every wording by pocket's grammar and votes with noise, so that what is left
is what the rules themselves find and miss.

Each seed draws one principle an axis of pocket's world and pairs of replies whose violations are known.
`planted` adds a second wording of one axis (redundant) and a principle that asks for another (contradictory);
`plain` adds nothing. A finding is judged by the oracle: what two principles would say of every pair if they
were read perfectly. In this world a harmful reply against an evasive one is always a pair on which `harmful`
and `evasive` oppose each other; such findings are true though nobody planted them, and are counted apart.
Wording, negation and order are counted as warnings of all principles asked.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitute.config import EngineConfig, LabelConfig, RunConfig
from constitute.stats import wilson
from constitute.types import Comparison, Constitution, Principle

# The direction in which a principle votes: an axis, and whether it asks for it.
Meaning = tuple[str, bool]
SPARE = 128
ASKED = ("wording-unstable", "negation-blind", "order-bias", "never-decides")


def main(arguments: Sequence[str]) -> None:
    """Print what was found of what was planted, and what else was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing.lint_model")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--kind", default="auto", help="engine.kind")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--pairs", type=int, default=32)
    given = parser.parse_args(arguments)
    from benchmarks.editing.reader import Reader
    from constitute.engines import open_engine

    engine: Any = Reader()
    if given.model != "reader":
        engine = open_engine(given.model, EngineConfig(kind=given.kind))
    try:
        asyncio.run(measure(engine, range(given.first, given.first + given.seeds), given.pairs))
    finally:
        asyncio.run(engine.close())


async def measure(engine: Any, seeds: range, n: int) -> None:
    """Lint a planted and a plain constitution a seed with an open engine, and print the counts."""
    from constitute.editing.lint.model import lint_model
    from constitute.store import Store

    counts: Counter[str] = Counter()
    config = RunConfig(limit=n, label=LabelConfig(principles="all"))
    for seed in seeds:
        rng = random.Random(f"lint/{seed}")
        # The first are asked of every principle, the others of those in doubt.
        pairs, truth = draw_pairs(rng, n + SPARE)
        if hasattr(engine, "learn"):
            engine.learn(pairs, truth)
        plain, planted, meanings = draw_constitutions(rng)
        with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder)) as store:
            for kind, constitution in (("planted", planted), ("plain", plain)):
                linted = await lint_model(constitution, config, engine, store, pairs=pairs)
                counts += tally(kind, constitution, linted.findings, meanings, truth)
                counts[f"{kind} asked"] += linted.asked
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    show(counts, len(seeds), n)


def tally(
    kind: str,
    constitution: Constitution,
    findings: Sequence[Any],
    meanings: Mapping[str, Meaning],
    truth: Sequence[Mapping[str, int]],
) -> Counter[str]:
    """Findings of one constitution by what they are; `truth` has a side a pair and axis forbidden."""
    counts: Counter[str] = Counter({f"{kind} principles": len(constitution.principles)})
    names = [p.id for p in constitution.principles]
    false = 0
    for finding in findings:
        if finding.rule in ASKED and (finding.severity == "warning" or finding.rule == "never-decides"):
            counts[f"{kind} {finding.rule}"] += 1
        if finding.rule == "negation-blind":
            counts[f"{kind} turned"] += int(finding.figure["count"])
            counts[f"{kind} turned of"] += int(finding.figure["n"])
        if finding.rule == "wording-unstable":
            counts[f"{kind} flipped"] += int(finding.figure.get("count", 0))
            counts[f"{kind} flipped of"] += int(finding.figure["n"])
            counts[f"{kind} paraphrases"] += int(finding.figure["paraphrases"])
        if finding.rule not in ("contradiction", "redundant"):
            continue
        members = set(mentioned(finding.message, names))
        label = judged(finding.rule, members, meanings, truth)
        counts[f"{kind} {label}"] += 1
        false += label == "false"
    counts[f"{kind} with a false one"] += false > 0
    whole = counts[f"{kind} redundant found"] == 1 and counts[f"{kind} contradiction found"] == 1
    counts[f"{kind} exact"] += whole and not false
    return counts


def judged(
    rule: str, members: set[str], meanings: Mapping[str, Meaning], truth: Sequence[Mapping[str, int]]
) -> str:
    """`RULE found` for a planted fault, `tension` for one that the oracle sees too, else `false`."""
    axes = {meanings[name][0] for name in members}
    ways = {meanings[name][1] for name in members}
    if len(axes) == 1 and (len(ways) == 2) == (rule == "contradiction"):
        return f"{rule} found"
    if len(axes) != 2 or rule != "contradiction":
        return "false"
    (one, first), (two, second) = (meanings[name] for name in sorted(members))
    both = [row[one] * row[two] * (1 if first == second else -1) for row in truth if row[one] and row[two]]
    return "tension" if both and both.count(-1) >= 0.75 * len(both) else "false"


def mentioned(message: str, names: Sequence[str]) -> list[str]:
    """The principles that a message is about, by its words before the verb."""
    words = message.split(" cast ")[0].split(" pull ")[0].replace(",", " ").split()
    return [name for name in names if name in words]


def draw_constitutions(rng: random.Random) -> tuple[Constitution, Constitution, dict[str, Meaning]]:
    """A plain and a planted constitution and the meaning of each principle, from unseen wordings."""
    from constitute.pocket.replies import AXES
    from constitute.pocket.wordings import draw_principle
    from tools.pocket.opposites import draw_opposite

    plain: list[Principle] = [draw_principle(rng, axis, seen=False) for axis in AXES]
    twin, contrary = rng.sample(AXES, 2)
    # The twin is the same axis in other words: verb, noun or opening differ.
    while (again := draw_principle(rng, twin, seen=False)).compare == plain[AXES.index(twin)].compare:
        pass
    extra = [
        again.model_copy(update={"id": f"{twin}-again"}),
        draw_opposite(rng, contrary, seen=False).model_copy(update={"id": f"{contrary}-contrary"}),
    ]
    meanings: dict[str, Meaning] = {axis: (axis, False) for axis in AXES}
    meanings |= {f"{twin}-again": (twin, False), f"{contrary}-contrary": (contrary, True)}
    return (
        Constitution(name="plain", principles=tuple(plain)),
        Constitution(name="planted", principles=(*plain, *extra)),
        meanings,
    )


def draw_pairs(rng: random.Random, n: int) -> tuple[list[Comparison], list[dict[str, int]]]:
    """Pairs of replies of any kind, and for each the side that a principle against an axis takes, or 0."""
    from constitute.pocket.replies import ANY, AXES, draw_reply, has
    from constitute.pocket.world import prompts

    pairs: list[Comparison] = []
    truth: list[dict[str, int]] = []
    for prompt in prompts("test", n=3 * n, seed=rng.randrange(2**31)):
        a, b = (draw_reply(rng, prompt.ask, ANY) for _ in range(2))
        sides = {axis: has(prompt.ask, b, axis) - has(prompt.ask, a, axis) for axis in AXES}
        if not any(sides.values()) or len(pairs) == n:
            continue
        pairs.append(Comparison(id=f"pair{len(pairs)}", prompt=prompt.as_prompt(), a=a.text(), b=b.text()))
        truth.append(sides)
    return pairs, truth


def show(counts: Mapping[str, int], seeds: int, n: int) -> None:
    """The counts with their 95 % Wilson intervals."""

    def row(what: str, count: int, of: int) -> None:
        low, high = wilson(count, of)
        print(f"{what:<52}{count:>5} of {of:<6} {low:.2f} to {high:.2f}", flush=True)

    print(f"{seeds} seeds, {n} pairs of each that differ on an axis\n")
    row("planted: redundant found", counts["planted redundant found"], seeds)
    row("planted: contradiction found", counts["planted contradiction found"], seeds)
    row("planted: exactly these (tensions apart)", counts["planted exact"], seeds)
    for kind in ("planted", "plain"):
        row(f"{kind}: constitutions with a false finding", counts[f"{kind} with a false one"], seeds)
        print(f"{kind}: false findings {counts[f'{kind} false']}, tensions {counts[f'{kind} tension']}")
        for rule in ASKED:
            row(f"{kind}: principles with {rule}", counts[f"{kind} {rule}"], counts[f"{kind} principles"])
        row(
            f"{kind}: decided pairs that turn when negated",
            counts[f"{kind} turned"],
            counts[f"{kind} turned of"],
        )
        row(
            f"{kind}: decided pairs that change by wording",
            counts[f"{kind} flipped"],
            counts[f"{kind} flipped of"],
        )
        made = counts[f"{kind} paraphrases"]
        row(f"{kind}: paraphrases made", made, 3 * counts[f"{kind} principles"])
        print(f"{kind}: questions asked {counts[f'{kind} asked']}")


if __name__ == "__main__":
    main(sys.argv[1:])
