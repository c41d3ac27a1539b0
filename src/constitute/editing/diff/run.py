"""The effect of an edited constitution on stored pairs; stored votes are used wherever they still hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from constitute.blocking import block
from constitute.config import LabelConfig, RunConfig
from constitute.constitution.priority import by_level
from constitute.editing.diff.changes import Changes, changes_between
from constitute.editing.diff.effect import Effect, PairEffect, Side, effect_of, pair_effect
from constitute.editing.votes import ByWording, Stored, other_model, read_stored, vote, wording_of, wordings
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.pipeline.session import dated, open_store
from constitute.progress import Progress, Silent
from constitute.stages.few_shot import shows_own
from constitute.stages.labels.adaptive import asking_all, voters
from constitute.stages.labels.rules import settle
from constitute.store import Store
from constitute.types import Comparison, Constitution, Principle, PrincipleVote

# A wording -> a principle that has it, and the pairs it has no vote on yet.
Missing = dict[str, tuple[Principle, list[Comparison]]]


@dataclass(frozen=True)
class Diff:
    """The effect, None in a dry run, and what it took; `model` is None where nothing had to be asked.

    `questions` were needed (two a vote): `asked` went to the model, `reused` were answered by the store.
    `stored` votes came from the run's rows, `failed` votes could not be had. `unlabelled` pairs (abstained,
    failed) have no label in the run.
    """

    changes: Changes
    effect: Effect | None
    pairs: tuple[PairEffect, ...]
    questions: int
    asked: int
    reused: int
    stored: int
    failed: int
    unlabelled: tuple[int, int]
    model: str | None


def diff_constitutions(
    config: RunConfig,
    a: Constitution,
    b: Constitution,
    *,
    model: str | None = None,
    pairs: Sequence[Comparison] | None = None,
    engine: Engine | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Diff:
    """Label the run's pairs, or `pairs`, under `a` and `b` and compare; blocks until done.

    Votes of the run's rows are used where the very question they answer would be asked now; what is
    missing is asked of `model`, else of the model that labelled the run, and kept in the run's store, whose
    rows stay as they are. With another model every vote is asked anew, as votes of two models cannot be
    compared. No engine is opened where nothing is missing. Raises `UsageError` without pairs or a model.
    """
    progress = progress or Silent()
    changes = changes_between(a, b, config.label)
    stored = read_stored(config, (a, b), pairs, changes.renamed, progress)
    name = model or config.judge or config.model
    missing = _missing(stored.pairs, (a, b), config.label, stored.votes)
    work = _Work(config, (a, b), changes, stored, dict(stored.votes))
    if dry_run or not missing:
        return work.result(name if missing else None, _questions(missing), done=not dry_run)
    if engine is None:
        named_model(name)
    # The answers of another run were copied when this one was made.
    with open_store(config.model_copy(update={"reuse": None}), progress) as store:
        return block(_ask(work, missing, name, engine, store, progress))


def pair_row(pair: PairEffect) -> dict[str, Any]:
    """A pair's effect as a JSON-ready row."""
    row = pair.comparison
    return {
        "id": row.id,
        "prompt": [message.model_dump() for message in row.prompt.messages],
        "a": row.a,
        "b": row.b,
        "p_before": pair.before,
        "p_after": pair.after,
        "change": None if pair.before is None or pair.after is None else pair.change,
        "flips": pair.flips,
        "why_before": pair.why[0],
        "why_after": pair.why[1],
        "parts": [part.model_dump() for part in pair.parts],
    }


@dataclass
class _Work:
    """A comparison under way: the votes known so far and how many questions it took."""

    config: RunConfig
    sides: tuple[Constitution, Constitution]
    changes: Changes
    stored: Stored
    votes: ByWording
    asked: int = 0
    reused: int = 0
    failed: int = 0
    taken: set[tuple[str, str]] = field(default_factory=set)

    def result(self, model: str | None, questions: int, *, done: bool = True) -> Diff:
        pairs = tuple(self._pairs()) if done else ()
        changed = _changed(self.changes, self.sides, self.config.label)
        return Diff(
            changes=self.changes,
            effect=effect_of(pairs, changed, seed=self.config.seed) if done else None,
            pairs=pairs,
            questions=questions,
            asked=self.asked,
            reused=self.reused,
            stored=len(self.taken & self.stored.votes.keys()),
            failed=self.failed,
            unlabelled=(self.stored.abstained, self.stored.failed),
            model=model,
        )

    def _pairs(self) -> Iterator[PairEffect]:
        a, b = (partial(settle, cfg=self.config.label, levels=by_level(side)) for side in self.sides)
        for row in self.stored.pairs:
            before, after = (self._side(row, side) for side in self.sides)
            yield pair_effect(row, before, after, self.changes.renamed, (a, b))

    def _side(self, row: Comparison, constitution: Constitution) -> Side:
        """The pair's votes under a constitution; like the stage label, all of them or none."""
        votes: list[PrincipleVote] = []
        for principle, weight in voters(row.id, self.config.label, constitution):
            wording = wording_of(principle, self.config.label)
            found = self.votes[row.id, wording]
            if isinstance(found, str):
                return found
            self.taken.add((row.id, wording))
            votes.append(found.model_copy(update={"principle_id": principle.id, "weight": weight}))
        return tuple(votes)


async def _ask(
    work: _Work, missing: Missing, name: str | None, given: Engine | None, store: Store, progress: Progress
) -> Diff:
    """Ask what is missing, one wording after the other."""
    config, stored = work.config, work.stored
    async with use_engine(name, dated(config).engine, progress, given) as engine:
        other = other_model(stored.model, engine, config.run) if stored.votes else ""
        if other:
            progress.note(f"{other}: every vote is asked anew")
            work.votes.clear()
            work.stored = replace(stored, votes={})
            missing = _missing(stored.pairs, work.sides, config.label, {})
        name = engine.identity.name
        progress.note(f"asking {name} {_questions(missing)} questions, less those it has answered before")
        for principle, rows in missing.values():
            await _ask_one(work, principle, rows, engine, store, progress)
    return work.result(name, _questions(missing))


async def _ask_one(
    work: _Work,
    principle: Principle,
    rows: Sequence[Comparison],
    engine: Engine,
    store: Store,
    progress: Progress,
) -> None:
    alone = Constitution(name=principle.id, principles=(principle.model_copy(update={"weight": 1.0}),))
    votes = await vote(
        rows,
        alone,
        engine,
        store,
        asking_all(work.config.label),
        seed=work.config.seed,
        in_flight=work.config.engine.in_flight,
        progress=progress,
    )
    work.asked += votes.asked
    work.reused += votes.reused
    wording = wording_of(principle, work.config.label)
    work.votes |= {(row.id, wording): row.label.votes[0] for row in votes.labelled}
    work.votes |= {(row.row_id, wording): row.reason or "" for row in votes.without}
    work.failed += sum(row.status == "failed" for row in votes.without)


def _missing(
    pairs: Sequence[Comparison],
    sides: tuple[Constitution, Constitution],
    cfg: LabelConfig,
    votes: ByWording,
) -> Missing:
    """What has to be asked, by wording."""
    missing: Missing = {}
    for row in pairs:
        for wording, principle in wordings(row.id, sides, cfg).items():
            if (row.id, wording) not in votes:
                missing.setdefault(wording, (principle, []))[1].append(row)
    return missing


def _questions(missing: Missing) -> int:
    return sum(2 * len(rows) for _, rows in missing.values())


def _changed(
    changes: Changes, sides: tuple[Constitution, Constitution], cfg: LabelConfig
) -> dict[str, tuple[str, ...]]:
    """Second ids of the changed principles with the tags of both versions.

    Of a priority the level counts, where `label.rule` decides by it: its place, whatever its name.
    """
    silent = {"source", "probes", "draft", "priority", "opposite"} | (
        set() if shows_own(cfg) else {"examples"}
    )
    moved = set(changes.moved) if cfg.rule == "priority" else set()
    found = {
        change.id: tuple(sorted({tag for p in (change.before, change.after) if p for tag in p.tags}))
        for change in changes.changes
        if change.kind != "changed" or set(change.fields) - silent
    }
    return found | {p.id: p.tags for p in sides[1].principles if p.id in moved and p.id not in found}
