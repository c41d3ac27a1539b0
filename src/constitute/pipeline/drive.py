"""Drive stages over rows: depth first, resumable, each row ending as ok, abstain or failed(reason).

A fixed number of workers each take a row through all its steps before they take another, so a chain has
no barrier between steps and the first row is done early. An engine that is gone, a disk that refuses or
a bug stops every worker at once; what was acknowledged is in the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol

from pydantic import BaseModel

from constitute.engines.base import Engine
from constitute.errors import Abstain, ConstituteError, RowError, RunMismatch
from constitute.pipeline.sampler import Desk, Sampler, derive_seed
from constitute.progress import Progress, Silent
from constitute.stages.base import Sample
from constitute.store import Store
from constitute.types import Outcome, Record


class Row(Protocol):
    """Anything with an id that is stable from run to run."""

    @property
    def id(self) -> str: ...


Result = BaseModel | list[Any]
Work = Callable[[Any, Sample, random.Random], Awaitable[Result]]


class Counts(Record):
    """How a stage's rows ended, over all runs of the store; the three add up to the input.

    `resumed` rows had ended before this run; `asked` and `reused` count this run's questions.
    """

    stage: str
    ok: int = 0
    abstain: int = 0
    failed: int = 0
    resumed: int = 0
    asked: int = 0
    reused: int = 0

    @property
    def total(self) -> int:
        return self.ok + self.abstain + self.failed


class Stage:
    """One stage's desk: settles rows, and counts how they end."""

    def __init__(self, desk: Desk, retry: bool = False) -> None:
        self.desk = desk
        self._retry = retry
        self._ended: Counter[str] = Counter()

    async def settle(self, position: int, row: Row, work: Work, input_hash: str = "") -> Outcome:
        """Run `work` on a row, or return how the row ended before.

        Raises `RunMismatch` for a row of the same id that was given something else. A failed row is
        tried again only with `retry`.
        """
        desk = self.desk
        found = desk.store.ended(desk.stage, row.id)
        if found is not None:
            before, given = found
            self._same_input(row, given, input_hash)
            if before.status != "failed" or not self._retry:
                self._ended["resumed"] += 1
                return self._count(before)
        outcome = await self._run(position, row, work)
        desk.store.put_outcome(desk.stage, outcome, input_hash)
        desk.progress.advance(desk.stage, outcome.status)
        return self._count(outcome)

    def counts(self) -> Counts:
        """The rows settled so far."""
        return Counts(stage=self.desk.stage, asked=self.desk.asked, reused=self.desk.reused, **self._ended)

    async def _run(self, position: int, row: Row, work: Work) -> Outcome:
        rng = random.Random(derive_seed(self.desk.seed, self.desk.stage, row.id))
        try:
            result = await work(row, Sampler(self.desk, row.id), rng)
        except RowError as problem:
            return Outcome(row_id=row.id, position=position, status="failed", reason=str(problem))
        except Abstain as decline:
            return Outcome(row_id=row.id, position=position, status="abstain", reason=str(decline))
        return Outcome(row_id=row.id, position=position, status="ok", data=_plain(result))

    def _same_input(self, row: Row, stored: str, input_hash: str) -> None:
        if stored != input_hash:
            raise RunMismatch(
                f"row {row.id!r} of {self.desk.stage} was given something else when it was first run in "
                f"{self.desk.store.folder}; give the same input, or another --run DIR"
            )

    def _count(self, outcome: Outcome) -> Outcome:
        self._ended[outcome.status] += 1
        return outcome


async def drive(
    stage: str,
    rows: Iterable[Row],
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
    """Run `work(row, sample, rng)` on every row, at most `in_flight` rows at a time, and record each ending.

    A row's place in `rows` is its position in the store. `work` returns a record, or a list of records
    that is stored as `{"items": [...]}`. Rows that ended before are skipped (with `retry`, failed ones
    are not). Raises `EngineError`, `StorageError`, `RunMismatch`, and whatever a bug raises.
    """
    progress = progress or Silent()
    desk = Desk(stage, engine, store, seed, progress, keep_truncated)
    driver = Stage(desk, retry)

    async def settle(job: tuple[int, Row]) -> None:
        position, row = job
        await driver.settle(position, row, work, input_hash(row))

    progress.start(stage, total, sum(store.counts(stage).values()))
    await run_jobs(enumerate(rows), settle, in_flight)
    progress.finish(stage)
    return driver.counts()


async def run_jobs(jobs: Iterable[Any], settle: Callable[[Any], Awaitable[None]], workers: int) -> None:
    """Run `settle` on every job with a number of workers; the first error stops them all and is raised."""
    source: Iterator[Any] = iter(jobs)

    async def worker() -> None:
        for job in source:
            await settle(job)
            # Rows that ended before settle without waiting; others must get their turn between them.
            await asyncio.sleep(0)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())
    except BaseExceptionGroup as problems:
        raise _first(problems) from None


def input_hash(row: Any) -> str:
    """16 hex digits that change with anything in a row; a row that is no record counts by its id."""
    text = row.model_dump_json() if isinstance(row, BaseModel) else row.id
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(result: Result) -> dict[str, Any]:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    return {
        "items": [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in result]
    }


def _first(problems: BaseExceptionGroup) -> BaseException:
    """The error to show when several workers stopped: a bug before what the run itself can explain."""
    return min(_leaves(problems), key=lambda problem: isinstance(problem, ConstituteError))


def _leaves(problems: BaseExceptionGroup) -> Iterator[BaseException]:
    for problem in problems.exceptions:
        if isinstance(problem, BaseExceptionGroup):
            yield from _leaves(problem)
        else:
            yield problem
