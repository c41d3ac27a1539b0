"""Lead rows through a chain of data stages, or part of one, depth first and resumable.

A chain is data: the names in `chain`, each a `StageSpec`. A prompt stage makes a prompt's n samples, response
stages follow each sample by themselves, and a pair stage takes the pairs that `label.pairs` names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from constitute.engines.base import Engine
from constitute.errors import DataError
from constitute.pipeline.budget import Budget
from constitute.pipeline.drive import input_hash, run_jobs
from constitute.pipeline.plan import Plan, answering
from constitute.pipeline.stage_run import Counts, StageRun, Work
from constitute.progress import Progress, Silent
from constitute.stages.base import Sample
from constitute.stages.generate import slot
from constitute.stages.labels.stage import pair_of_revision, pair_of_samples, pairs_of, voters
from constitute.store import Store
from constitute.store.spill import SpilledMap
from constitute.types import Comparison, Prompt, Response

# A prompt's samples have places of their own in the order of rows, however many are asked for later.
PLACES = 1024


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
        progress.start(name, expected_rows(name, plan, total, store), sum(store.counts(name).values()))
    source, workers = _source(_Chain(plan, runs, store))
    await run_jobs(source, lambda job: job, workers)
    for name, run in runs.items():
        run.settle()
        progress.finish(name)
    return {name: run.counts() for name, run in runs.items()}


def _source(chain: _Chain) -> tuple[Iterator[Coroutine[Any, Any, None]], int]:
    """The chains to run, as coroutines made one at a time, and how many to run at once."""
    plan = chain.plan
    limit, in_flight = plan.config.limit, plan.config.engine.in_flight
    if plan.pairs is not None:
        jobs = enumerate(islice(plan.pairs, limit))
        return (chain.pair(place, pair) for place, pair in jobs), _label_width(plan, in_flight)
    if plan.before is None:
        unique = enumerate(_distinct(islice(plan.prompts or (), limit)))
        workers = max(1, in_flight // plan.config.generate.n)
        return (chain.prompt(at, prompt) for at, prompt in unique), workers
    groups = islice(_groups(chain.store, plan.before), limit)
    workers = _label_width(plan, in_flight) if plan.first.reads == "pair" else in_flight
    return (chain.responses(group) for group in groups), workers


def _label_width(plan: Plan, in_flight: int) -> int:
    """Pairs at once that keep `in_flight` questions with the engine: two orders a principle."""
    votes = 1 if plan.constitution is None else len(voters("", plan.config.label, plan.constitution))
    return max(1, in_flight // (2 * votes))


def expected_rows(name: str, plan: Plan, total: int | None, store: Store) -> int | None:
    """Rows of a stage where no row fails on the way; None where that is not known beforehand."""
    config, spec = plan.config, plan.steps[name].spec
    if total is not None:
        total = min(total, config.limit or total)
        n, samples = config.generate.n, len(pairs_of(config.generate.n))
        each = {"samples": samples, "revision": n, "both": samples + n}[config.label.pairs]
        return total * (1 if plan.pairs is not None else each if spec.reads == "pair" else n)
    if (spec.reads == "pair" and config.label.pairs != "revision") or config.limit is not None:
        return None
    return store.counts(str(plan.before))["ok"]


def _distinct(prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    seen = SpilledMap()
    for prompt in prompts:
        if not seen.add(prompt.id):
            raise DataError(f"two prompts have the id {prompt.id!r}; give each prompt an id of its own")
        yield prompt


def _groups(store: Store, stage: str) -> Iterator[list[tuple[int, Response]]]:
    """A stage's ok responses with their positions, grouped by prompt."""
    rows = store.outcomes(stage, "ok")
    for _, group in groupby(rows, key=lambda outcome: outcome.position // PLACES):
        yield [(outcome.position, Response.model_validate(outcome.data)) for outcome in group]


# A sample before its first revision, or None where it ended earlier.
Unrevised = asyncio.Future[Response | None]


@dataclass
class _Chain:
    """The steps that follow from a prompt, a response or a pair, for the stages of a plan."""

    plan: Plan
    runs: dict[str, StageRun]
    store: Store

    async def prompt(self, place: int, prompt: Prompt) -> None:
        """All of a prompt: each sample goes on by itself, each pair as soon as both its samples are there."""
        rows = [(place * PLACES + at, slot(prompt, at)) for at in range(self.plan.config.generate.n)]
        await self._all(dict(enumerate(rows)))

    async def responses(self, rows: Sequence[tuple[int, Response]]) -> None:
        """What follows the responses (or revisions) of one prompt."""
        await self._all({row.sample: (position, row) for position, row in rows})

    async def pair(self, position: int, pair: Comparison) -> None:
        """Put one pair to the pair stage."""
        await self._step(list(self.plan.steps)[-1], position, pair)

    async def _all(self, rows: dict[int, tuple[int, Prompt | Response]]) -> None:
        loop = asyncio.get_running_loop()
        unrevised: dict[int, Unrevised] = {sample: loop.create_future() for sample in rows}
        async with asyncio.TaskGroup() as group:
            for sample, (position, row) in rows.items():
                group.create_task(self._sample(position, row, unrevised[sample]))
            for first, second in pairs_of(max(rows) + 1) if self.plan.labels("samples") else ():
                if first in rows and second in rows:
                    task = self._sample_pair(rows[first][0], unrevised[first], unrevised[second])
                    group.create_task(task)

    async def _sample(self, position: int, row: Any, unrevised: Unrevised) -> None:
        """Lead one sample through every stage that reads prompts or responses, until one ends it."""
        for name, step in self.plan.steps.items():
            if step.spec.reads == "pair" or row is None:
                break
            if step.spec.revises and not unrevised.done():
                unrevised.set_result(row)
            row = await self._step(name, position, row)
        if not unrevised.done():
            unrevised.set_result(row)
        if self.plan.revised is not None:
            outcome = self.store.outcome(self.plan.revised, row.id)
            revised = None if outcome is None else outcome.data
            row = None if revised is None else Response.model_validate(revised)
        if row is not None and self.plan.labels("revision"):
            await self.pair(position, pair_of_revision(row))

    async def _sample_pair(self, position: int, first: Unrevised, second: Unrevised) -> None:
        a, b = await first, await second
        if a is not None and b is not None:
            await self.pair(position, pair_of_samples(a, b))

    async def _step(self, name: str, position: int, row: Any) -> Any:
        """What the stage makes of the row, or None where it abstained or failed."""
        step = self.plan.steps[name]

        def working(settings: Any) -> Work:
            async def work(row: Any, sample: Sample) -> Any:
                return await step.spec.work(row, sample, settings, self.plan.constitution)

            return work

        mending = None if step.mend is None else working(step.mend.settings)
        outcome = await self.runs[name].row(position, row, working(step.settings), input_hash(row), mending)
        if outcome.data is None or step.spec.reads == "pair":
            return outcome.data
        return Response.model_validate(outcome.data)
