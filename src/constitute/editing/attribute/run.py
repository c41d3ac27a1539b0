"""Attribute a run's labels to principles: read its votes, and ask those that are missing where wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.constitution.identity import constitution_hash
from constitute.constitution.priority import by_level
from constitute.constitution.read import load_configured
from constitute.editing.attribute.figures import LEVELLED, MARGIN, Attribution, attribute
from constitute.editing.votes import Votes, other_model, vote
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.files import read_json
from constitute.pipeline.session import dated, open_store
from constitute.progress import Progress, Silent
from constitute.stages.few_shot import digests
from constitute.stages.labels.adaptive import asking_all
from constitute.stages.labels.rules import Levels
from constitute.store import Store
from constitute.store.manifest import MANIFEST_FILE, kept_constitution
from constitute.store.unfinished import Unfinished, unfinished_stage
from constitute.types import Constitution, LabelledPair, Outcome


@dataclass(frozen=True)
class Attributed:
    """The figures, how many rows have no label, and how filling went; `unfilled` pairs got no votes.

    `unfinished` says how far a labelling came that stopped early.
    """

    figures: Attribution
    without_label: int
    asked: int = 0
    reused: int = 0
    unfilled: tuple[Outcome, ...] = ()
    unfinished: Unfinished | None = None


def attribute_run(
    config: RunConfig,
    *,
    fill: bool = False,
    margin: float = MARGIN,
    limit: int | None = None,
    engine: Engine | None = None,
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
    progress = progress or Silent()
    with _store_of(config, progress, writes=fill) as store:
        rows = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
        counts, early = store.counts("label"), unfinished_stage(store, "label")
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
        rules = sorted({row.label.rule for row in rows} - {config.label.rule})
        if rules:
            made = ", ".join(rules)
            progress.note(f"{config.run} was labelled by {made}; label.rule={config.label.rule} is shown")
        left_out = counts["abstain"] + counts["failed"]
        if not fill:
            levels = _levels(config, rows)
            return Attributed(attribute(rows, (), margin, config.label, levels), left_out, unfinished=early)
        if engine is None:
            named_model(config.judge or config.model)
        constitution = load_configured(config)
        done = block(_fill(config, constitution, rows, store, engine, progress))
    new = {row.id: row for row in done.labelled}
    full = [new.get(row.id, row) for row in rows]
    figures = attribute(full, _active(constitution), margin, config.label, by_level(constitution))
    return Attributed(figures, left_out, done.asked, done.reused, done.without, early)


@contextmanager
def _store_of(config: RunConfig, progress: Progress, *, writes: bool) -> Iterator[Store]:
    """The run's store, which must exist; the answers of another run were copied when this one was made."""
    if writes:
        with open_store(config.model_copy(update={"reuse": None}), progress, create=False) as store:
            yield store
    else:
        with Store.open(config.run, create=False, readonly=True) as store:
            yield store


def _levels(config: RunConfig, rows: Sequence[LabelledPair]) -> Levels | None:
    """The levels of the constitution that the run was labelled with; None where it is not to be had.

    Raises `UsageError` where the rule is decided by them.
    """
    path = config.run / MANIFEST_FILE
    manifest = read_json(path) if path.is_file() else None
    found = kept_constitution(manifest) if isinstance(manifest, Mapping) else None
    if found is None and config.constitution is not None:
        found = load_configured(config)
    voted = {vote.principle_id for row in rows for vote in row.label.votes}
    if found is not None and voted <= {principle.id for principle in found.principles}:
        return by_level(found)
    if config.label.rule == LEVELLED:
        raise UsageError(
            f"{config.run} does not hold the constitution it was labelled with, so the levels of its "
            "principles are not known; give --set label.rule=mean, or label again with "
            f"--run NEW --reuse {config.run}"
        )
    return None


def _active(constitution: Constitution) -> list[str]:
    return sorted(principle.id for principle in constitution.principles if principle.weight > 0)


async def _fill(
    config: RunConfig,
    constitution: Constitution,
    rows: list[LabelledPair],
    store: Store,
    given: Engine | None,
    progress: Progress,
) -> Votes:
    """The votes of all principles on the rows that lack one."""
    made = store.meta("stage:label") or {}
    names = set(_active(constitution))
    short = [row for row in rows if {v.principle_id for v in row.label.votes} != names]
    shown = digests("label", config.label, constitution)
    same_words = made.get("constitution") == constitution_hash(constitution)
    if not same_words or made.get("shown", {}) != shown:
        what = "the examples shown are not those" if same_words else "the constitution is not the one"
        progress.note(f"{what} {config.run} was labelled with: every pair is labelled anew")
        short = rows
    if not short:
        return Votes((), (), 0, 0)
    async with use_engine(config.judge or config.model, dated(config).engine, progress, given) as engine:
        other = other_model(made.get("model"), engine, config.run)
        if other and short is not rows:
            progress.note(f"{other}: every pair is labelled anew")
            short = rows
        progress.note(f"{len(short)} of {len(rows)} pairs: at most {2 * len(names) * len(short)} questions")
        return await vote(
            [row.comparison for row in short],
            constitution,
            engine,
            store,
            asking_all(config.label),
            seed=config.seed,
            in_flight=config.engine.in_flight,
            progress=progress,
        )
