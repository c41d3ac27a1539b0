"""One stage at work: its rows, and how they end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from constitute.engines.base import Engine
from constitute.errors import Abstain, RowError, RunMismatch, Unanswered
from constitute.pipeline.budget import Budget
from constitute.pipeline.cut import Mend, blames
from constitute.pipeline.sampler import Sampler
from constitute.progress import Progress
from constitute.stages.base import Sample
from constitute.store import Store, mended
from constitute.types import Outcome, Record


class Identified(Protocol):
    """Anything with an id that is stable from run to run."""

    @property
    def id(self) -> str: ...


Result = BaseModel | list[Any]
# (row, sample) -> what the stage makes of the row.
Work = Callable[[Any, Sample], Awaitable[Result]]


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


def stays(before: Outcome, stage: str, mend: Mend | None, retry: bool) -> bool:
    """Whether a row that ended is left as it is; `retry` tries failed ones again, unless a mend must help."""
    if mend is not None and mend.helps(before):
        return False
    again = retry and before.status == "failed"
    return not again or (mend is not None and bool(blames(stage, before.reason or "")))


@dataclass
class StageRun:
    """One stage at work: its engine and store, the questions on their way, and how its rows ended so far.

    `resumed` rows had ended before; `asked` and `reused` count questions. With `retry`, failed rows are
    tried again; with `mend`, rows that its new settings help are tried again with those. `shown` is the name
    under which tokens are counted where progress does not show the stage's. `budget` counts and limits what
    is asked.
    """

    stage: str
    engine: Engine
    store: Store
    seed: int
    progress: Progress
    keep_truncated: bool = False
    retry: bool = False
    version: int = 1
    shown: str = ""
    mend: Mend | None = None
    budget: Budget | None = None
    asked: int = 0
    reused: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    in_flight: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    held: list[tuple[Outcome, str, Mend | None]] = field(default_factory=list)
    """Rows that the server left unanswered since its last answer, with the hashes of their inputs."""

    async def row(
        self,
        position: int,
        row: Identified,
        work: Work,
        input_hash: str = "",
        mending: Work | None = None,
    ) -> Outcome:
        """Run `work` on a row, or return how the row ended before; either is counted.

        A row that was left unanswered is held back until the next answer, or `settle` at the end of the
        run, shows that it failed by itself. Where the server is gone it was not the row's fault: the run
        ends, and the next one asks again.
        Raises `RunMismatch` for a row of the same id that was given something else.
        """
        mend = None
        found = self.store.ended(self.stage, row.id)
        if found is not None:
            before, stored = found
            self._same_input(row, stored, input_hash)
            mend = self.mend if self.mend is not None and self.mend.helps(before) else None
            if stays(before, self.stage, self.mend, self.retry):
                self.ended["resumed"] += 1
                self.ended[before.status] += 1
                return before
        try:
            keep = self.keep_truncated if mend is None else getattr(mend.settings, "keep_truncated", True)
            used = work if mend is None or mending is None else mending
            outcome = await self._run(position, row, used, keep)
        except Unanswered as problem:
            outcome = Outcome(row_id=row.id, position=position, status="failed", reason=str(problem))
            self.held.append((outcome, input_hash, mend))
            return outcome
        self._settle(outcome, input_hash, mend)
        return outcome

    def done_before(self, total: int | None) -> int:
        """Rows that ended and stay as they are, of the `total` that are gone through where it is known."""
        done = sum(self.store.counts(self.stage).values())
        if self.retry or self.mend is not None:
            ended = (*self.store.outcomes(self.stage, "abstain"), *self.store.outcomes(self.stage, "failed"))
            done -= sum(not stays(row, self.stage, self.mend, self.retry) for row in ended)
        return done if total is None else min(done, total)

    def settle(self) -> None:
        """Record held rows as failed: the server has answered since, or the run is over."""
        held, self.held = self.held, []
        for outcome, input_hash, mend in held:
            self._settle(outcome, input_hash, mend)

    def _settle(self, outcome: Outcome, input_hash: str, mend: Mend | None) -> None:
        # Noted first: where the process dies between the two, the row has not ended well and is noted again.
        mended.note(self.store, self.stage, outcome.row_id, None if mend is None else mend.changed)
        self.store.put_outcome(self.stage, outcome, input_hash)
        self.progress.advance(self.stage, outcome.status)
        self.ended[outcome.status] += 1

    def counts(self) -> Counts:
        """The rows that have ended so far."""
        return Counts(stage=self.stage, asked=self.asked, reused=self.reused, **self.ended)

    async def _run(self, position: int, row: Identified, work: Work, keep: bool) -> Outcome:
        try:
            result = await work(row, Sampler(self, row.id, keep))
        except Unanswered:
            raise
        except RowError as problem:
            return Outcome(row_id=row.id, position=position, status="failed", reason=str(problem))
        except Abstain as decline:
            return Outcome(row_id=row.id, position=position, status="abstain", reason=str(decline))
        return Outcome(row_id=row.id, position=position, status="ok", data=_plain(result))

    def _same_input(self, row: Identified, stored: str, input_hash: str) -> None:
        if stored != input_hash:
            raise RunMismatch(
                f"row {row.id!r} of {self.stage} was given something else when it was first run in "
                f"{self.store.folder}; give the same input, or another --run DIR"
            )


def _plain(result: Result) -> dict[str, Any]:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    return {
        "items": [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in result]
    }
