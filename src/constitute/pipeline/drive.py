"""Drive stages over rows: depth first, resumable, each row ending as ok, abstain or failed(reason).

A fixed number of workers each take a row through all its steps before they take another, so a chain has
no barrier between steps and the first row is done early. An engine that is gone, a disk that refuses or
a bug stops every worker at once; what was acknowledged is in the store.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from constitute.engines.base import Engine
from constitute.errors import ConstituteError
from constitute.pipeline.stage_run import Counts, Identified, StageRun, Work
from constitute.progress import Progress, Silent
from constitute.store import Store


async def drive(
    stage: str,
    rows: Iterable[Identified],
    work: Work,
    *,
    engine: Engine,
    store: Store,
    seed: int,
    in_flight: int = 256,
    progress: Progress | None = None,
    total: int | None = None,
    keep_truncated: bool = False,
    retry: bool = False,
) -> Counts:
    """Run `work(row, sample)` on every row, at most `in_flight` rows at a time, and record each ending.

    A row's place in `rows` is its position in the store. `work` returns a record, or a list of records
    that is stored as `{"items": [...]}`. Rows that ended before are skipped (with `retry`, failed ones
    are not). Raises `EngineError`, `StorageError`, `RunMismatch`, and whatever a bug raises.
    """
    progress = progress or Silent()
    run = StageRun(stage, engine, store, seed, progress, keep_truncated, retry)

    async def one(job: tuple[int, Identified]) -> None:
        position, row = job
        await run.row(position, row, work, input_hash(row))

    progress.start(stage, total, sum(store.counts(stage).values()))
    await run_jobs(enumerate(rows), one, in_flight)
    run.settle()
    progress.finish(stage)
    return run.counts()


async def run_jobs(jobs: Iterable[Any], one: Callable[[Any], Awaitable[None]], workers: int) -> None:
    """Run `one` on every job with a number of workers; the first error stops them all and is raised."""
    source: Iterator[Any] = iter(jobs)

    async def worker() -> None:
        for job in source:
            await one(job)
            # Rows that ended before return without waiting; others must get their turn between them.
            await asyncio.sleep(0)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())
    except BaseExceptionGroup as problems:
        raise _first(problems) from None


def input_hash(row: Any) -> str:
    """16 hex digits that change with anything a model is shown of a row; no record counts by its id."""
    # A person's preference and the writers' names are measured against and shown to no model: they may be
    # added later.
    text = (
        row.model_dump_json(exclude={"human", "a_model", "b_model"}) if isinstance(row, BaseModel) else row.id
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _first(problems: BaseExceptionGroup) -> BaseException:
    """The error to show when several workers stopped: a bug before what the run itself can explain."""
    return min(_leaves(problems), key=lambda problem: isinstance(problem, ConstituteError))


def _leaves(problems: BaseExceptionGroup) -> Iterator[BaseException]:
    for problem in problems.exceptions:
        if isinstance(problem, BaseExceptionGroup):
            yield from _leaves(problem)
        else:
            yield problem
