"""Lead rows through a chain of data stages, or part of one, depth first and resumable.

A chain is data: the names in `chain`, each a `StageSpec`. A prompt stage makes a prompt's n samples, response
stages follow each sample by themselves, and a pair stage takes the pairs that `label.pairs` names.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, TypeVar

from constitute.config import LabelConfig, Shard
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.pipeline.against import model_noted, other_run
from constitute.pipeline.budget import Budget
from constitute.pipeline.drive import input_hash, run_jobs
from constitute.pipeline.plan import Plan, answering
from constitute.pipeline.shards import PLACES, distinct, noted
from constitute.pipeline.stage_run import Counts, StageRun, Work, stays
from constitute.progress import Progress, Silent
from constitute.stages.base import Sample
from constitute.stages.generate import slot
from constitute.stages.labels.adaptive import asked_first, voters
from constitute.stages.labels.pairs import Candidates, Lookup, PairSource, alone
from constitute.stages.labels.rank import best_and_worst
from constitute.store import Store
from constitute.types import Comparison, Prompt, Response

_R = TypeVar("_R")


async def run_chain(
    plan: Plan,
    engine: Engine,
    store: Store,
    *,
    judge: Engine | None = None,
    progress: Progress | None = None,
    total: int | None = None,
    retry: bool = False,
    by_stage: Mapping[str, Engine] | None = None,
    budget: Budget | None = None,
) -> dict[str, Counts]:
    """Run a claimed plan and return the counts by stage; `judge` answers pair stages in the engine's place.

    `by_stage`, where given, holds the engine of each stage. `budget` counts and limits what is asked. `total`
    is the number of prompts or pairs, where known. Raises `EngineError`, `StorageError`, `LimitReached` and,
    for a row that was given something else before, `RunMismatch`.
    """
    progress = progress or Silent()
    runs = {}
    for name, step in plan.steps.items():
        spec = step.spec
        model = answering(spec, engine, judge) if by_stage is None else by_stage[name]
        keep = getattr(step.settings, "keep_truncated", spec.reads == "pair")
        runs[name] = StageRun(
            name,
            model,
            store,
            plan.config.seed,
            progress,
            keep,
            retry,
            version=spec.version,
            mend=step.mend,
            budget=budget,
        )
        rows = expected_rows(name, plan, total, store, retry=retry)
        progress.start(name, rows, runs[name].done_before(rows))
    with other_run(plan, store, own_model(plan, runs, store), progress) as find:
        source, workers = _source(_Chain(plan, runs, store, find))
        await run_jobs(source, lambda job: job, workers)
    for name, run in runs.items():
        run.settle()
        progress.finish(name)
    return {name: run.counts() for name, run in runs.items()}


def own_model(plan: Plan, runs: Mapping[str, StageRun], store: Store) -> str:
    """The name of the model that wrote, or is to write, the run's responses."""
    first = next(iter(runs))
    if plan.first.reads == "prompt":
        return runs[first].engine.identity.name
    return model_noted(store) or "this run's model"


def _source(chain: _Chain) -> tuple[Iterator[Coroutine[Any, Any, None]], int]:
    """The chains to run, as coroutines made one at a time, and how many to run at once."""
    plan = chain.plan
    limit, in_flight = plan.config.limit, plan.config.engine.in_flight
    if plan.pairs is not None:
        jobs = _placed(plan, plan.pairs)
        return (chain.pair(place, pair) for place, pair in jobs), _label_width(plan, in_flight)
    if plan.before is None:
        unique = _placed(plan, distinct(plan.prompts or ()))
        workers = max(1, in_flight // plan.samples)
        return (chain.prompt(at, prompt) for at, prompt in unique), workers
    groups = islice(_groups(chain.store, plan.before, plan.config.shard), limit)
    workers = _label_width(plan, in_flight) if plan.first.reads == "pair" else in_flight
    return (chain.responses(group) for group in groups), workers


def _placed(plan: Plan, rows: Iterable[_R]) -> Iterator[tuple[int, _R]]:
    """Rows with their places in the whole input."""
    if plan.places is not None:
        return zip(plan.places, rows, strict=True)
    return enumerate(islice(rows, plan.config.limit))


def _label_width(plan: Plan, in_flight: int) -> int:
    """Pairs at once that keep `in_flight` questions with the engine: two orders a principle."""
    votes, cfg = 1, plan.config.label
    if plan.constitution is not None:
        votes = len(asked_first("", cfg, voters("", cfg, plan.constitution)))
    return max(1, in_flight // (2 * votes))


def expected_rows(
    name: str, plan: Plan, total: int | None, store: Store, *, retry: bool = False
) -> int | None:
    """Rows of a stage where no further row fails on the way; None where that is not known beforehand."""
    config, spec = plan.config, plan.steps[name].spec
    if total is not None:
        total = min(total, config.limit or total)
        n = plan.samples
        if spec.reads != "pair":
            return total * n - _never(name, plan, total, store, retry)
        if plan.pairs is not None:
            return total
        each = (len(source.groups(n)) * source.each(config) for source in plan.sources)
        return total * sum(each) - _never(name, plan, total, store, retry)
    if config.limit is not None:
        return None
    if config.shard is not None and noted(store, str(plan.before)) is None:
        return None
    ready = store.counts(str(plan.before))["ok"]
    if spec.reads != "pair":
        return ready - _never(name, plan, total, store, retry)
    # Only where every row makes its pairs by itself are they known without looking at the rows.
    lone = all(source.groups is alone and not source.against for source in plan.sources)
    if not lone:
        return None
    found = ready * sum(source.each(config) for source in plan.sources)
    return found - _never(name, plan, total, store, retry)


def _never(name: str, plan: Plan, total: int | None, store: Store, retry: bool) -> int:
    """Rows of a stage that no longer come: what they are made of ended in a stage before, and stays so."""
    early: dict[int, set[int]] = defaultdict(set)
    late: dict[int, set[int]] = defaultdict(set)
    revised = False
    for stage, step in plan.steps.items():
        if stage == name:
            break
        revised = revised or step.spec.revises
        for status in ("abstain", "failed"):
            for row in store.outcomes(stage, status):
                place, at = divmod(row.position, PLACES)
                within = total is None or plan.config.shard is not None or place < total
                if within and at < plan.samples and stays(row, stage, step.mend, retry):
                    late[place].add(at)
                    if not revised:
                        early[place].add(at)
    if plan.steps[name].spec.reads != "pair":
        return sum(map(len, late.values()))
    return sum(
        source.each(plan.config)
        for source in plan.sources
        for gone in (early if source.stands == "before" else late).values()
        for group in source.groups(plan.samples)
        if len(gone.intersection(group)) > (max(0, len(group) - 2) if source.partial else 0)
    )


def _groups(store: Store, stage: str, shard: Shard | None) -> Iterator[list[tuple[int, Response]]]:
    """A stage's ok responses with their positions, grouped by prompt: those of a shard, or all."""
    rows = store.outcomes(stage, "ok")
    for place, group in groupby(rows, key=lambda outcome: outcome.position // PLACES):
        if shard is None or shard.takes(place):
            yield [(outcome.position, Response.model_validate(outcome.data)) for outcome in group]


@dataclass(frozen=True)
class _Sample:
    """A sample on its way: `before` its first revision and `after` all stages; None where it ended."""

    position: int
    before: asyncio.Future[Response | None]
    after: asyncio.Future[Response | None]


@dataclass
class _Chain:
    """The steps that follow from a prompt, a response or a pair, for the stages of a plan."""

    plan: Plan
    runs: dict[str, StageRun]
    store: Store
    find: Lookup

    async def prompt(self, place: int, prompt: Prompt) -> None:
        """All of a prompt: each sample goes on by itself, each pair as soon as its samples are there."""
        rows = [(place * PLACES + at, slot(prompt, at)) for at in range(self.plan.samples)]
        await self._all(dict(enumerate(rows)))

    async def responses(self, rows: Sequence[tuple[int, Response]]) -> None:
        """What follows the responses (or revisions) of one prompt."""
        await self._all({row.sample: (position, row) for position, row in rows})

    async def pair(self, position: int, pair: Comparison | Candidates) -> None:
        """Put one pair to the pair stage."""
        await self._step(list(self.plan.steps)[-1], position, pair)

    async def _all(self, rows: dict[int, tuple[int, Prompt | Response]]) -> None:
        made = asyncio.get_running_loop().create_future
        under_way = {at: _Sample(position, made(), made()) for at, (position, _) in rows.items()}
        async with asyncio.TaskGroup() as group:
            for at, (_, row) in rows.items():
                group.create_task(self._sample(row, under_way[at]))
            for source in self.plan.sources:
                for places in source.groups(max(rows) + 1):
                    there = [under_way[at] for at in places if at in under_way]
                    if there and (source.partial or len(there) == len(places)):
                        group.create_task(self._pairs(source, there))

    async def _sample(self, row: Any, under_way: _Sample) -> None:
        """Lead one sample through every stage that reads prompts or responses, until one ends it."""
        for name, step in self.plan.steps.items():
            if step.spec.reads == "pair" or row is None:
                break
            if step.spec.revises and not under_way.before.done():
                under_way.before.set_result(row)
            row = await self._step(name, under_way.position, row)
        if not under_way.before.done():
            under_way.before.set_result(row)
        if self.plan.revised is not None and row is not None:
            outcome = self.store.outcome(self.plan.revised, row.id)
            revised = None if outcome is None else outcome.data
            row = None if revised is None else Response.model_validate(revised)
        under_way.after.set_result(row)

    async def _pairs(self, source: PairSource, samples: Sequence[_Sample]) -> None:
        """Put the pairs of a group to the pair stage as soon as its samples are there."""
        found = [await (each.before if source.stands == "before" else each.after) for each in samples]
        rows = [row for row in found if row is not None]
        if rows and (source.partial or len(rows) == len(found)):
            async with asyncio.TaskGroup() as group:
                for pair in source.rows(rows, self.find):
                    group.create_task(self.pair(samples[0].position, pair))

    async def _step(self, name: str, position: int, row: Any) -> Any:
        """What the stage makes of the row, or None where it abstained or failed."""
        step = self.plan.steps[name]

        def working(settings: Any) -> Work:
            async def work(row: Any, sample: Sample) -> Any:
                if isinstance(row, Candidates):
                    cfg = settings if isinstance(settings, LabelConfig) else self.plan.config.label
                    if self.plan.constitution is None:
                        raise UsageError("label.pairs: best_worst ranks by principles; name a constitution")
                    row = await best_and_worst(row, sample, cfg, self.plan.constitution)
                return await step.spec.work(row, sample, settings, self.plan.constitution)

            return work

        mending = None if step.mend is None else working(step.mend.settings)
        outcome = await self.runs[name].row(position, row, working(step.settings), input_hash(row), mending)
        if outcome.data is None or step.spec.reads == "pair":
            return outcome.data
        return Response.model_validate(outcome.data)
