"""Attribute a run's labels to principles: read its votes, and ask those that are missing where wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from constitute.config import RunConfig
from constitute.constitution.read import constitution_hash, load_constitution
from constitute.editing.attribute.attribution import MARGIN, Attribution, attribute
from constitute.editing.preview.run import close_all
from constitute.editing.votes import Votes, vote
from constitute.engines import open_engine
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.progress import Progress, Silent
from constitute.store import Store
from constitute.types import LabelledPair


@dataclass(frozen=True)
class Attributed:
    """The figures, rows of the run without a label, and how filling went; `unfilled` says (pair, why)."""

    figures: Attribution
    without_label: int
    asked: int = 0
    reused: int = 0
    unfilled: tuple[tuple[str, str], ...] = ()


def attribute_run(
    config: RunConfig,
    *,
    fill: bool = False,
    margin: float = MARGIN,
    limit: int | None = None,
    engine: Engine | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Attributed:
    """The principle x pair matrix of the run's labels, or of the first `limit`; blocks until done.

    With `fill`, pairs without a vote of every principle are labelled by all of `config.constitution`, and
    every pair where the constitution or the model is not the one the run was labelled with: votes under
    two wordings or of two models are not mixed. Answers are kept in the run's store, its outcomes stay.
    Raises `UsageError`, `EngineError`, `StorageError`.
    """
    if not 0 < margin <= 1:
        raise UsageError(f"--margin must lie above 0 and up to 1, not {margin:g}")
    with Store.open(config.run, create=False, readonly=not fill) as store:
        rows = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
        counts = store.counts("label")
        if not rows:
            ended = (
                f", {counts['abstain']} abstained and {counts['failed']} failed"
                if any(counts.values())
                else ""
            )
            raise UsageError(
                f"{config.run} has no labelled pairs to attribute{ended}; run `constitute label` on pairs "
                "that differ"
            )
        rows = rows[:limit]
        left_out = counts["abstain"] + counts["failed"]
        if not fill:
            return Attributed(attribute(rows, margin=margin), left_out)
        done, principles = asyncio.run(_fill(config, rows, store, engine, say, progress or Silent()))
    new = {row.id: row for row in done.labelled}
    full = [new.get(row.id, row) for row in rows]
    figures = attribute(full, principles, margin)
    return Attributed(figures, left_out, done.asked, done.reused, done.without)


async def _fill(
    config: RunConfig,
    rows: list[LabelledPair],
    store: Store,
    engine: Engine | None,
    say: Callable[[str], None],
    progress: Progress,
) -> tuple[Votes, tuple[str, ...]]:
    if config.constitution is None:
        raise UsageError("no constitution to fill votes from; name it with --constitution FILE")
    name = config.judge or config.model
    if engine is None and name is None:
        raise UsageError("no model to fill votes from; name one with --model, such as --model pocket")
    constitution = load_constitution(config.constitution, config.tags)
    made = store.meta("stage:label") or {}
    names = {principle.id for principle in constitution.principles if principle.weight > 0}
    short = [row for row in rows if {v.principle_id for v in row.label.votes} != names]
    if made.get("constitution") != constitution_hash(constitution):
        say("the constitution is not the one this run was labelled with, so every pair is labelled anew")
        short = rows
    if not short:
        return Votes((), (), 0, 0), tuple(sorted(names))
    opened = None
    try:
        if engine is None:
            engine = opened = open_engine(str(name), config.engine)
        if made.get("model") != engine.identity.model_dump(mode="json") and short is not rows:
            say("the model is not the one that labelled this run, so every pair is labelled anew")
            short = rows
        say(f"{len(short)} of {len(rows)} pairs: at most {2 * len(names) * len(short)} questions")
        cfg = config.label.model_copy(update={"principles": "all"})
        pairs = [row.comparison for row in short]
        done = await vote(pairs, constitution, engine, store, cfg, seed=config.seed, progress=progress)
    finally:
        await close_all(opened)
    return done, tuple(sorted(names))
