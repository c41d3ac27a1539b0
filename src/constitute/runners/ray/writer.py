"""The one process that writes a run on a cluster: it commits what workers send, and answers from the store.

Workers come and go; the run directory has this writer, on the driver's machine, as it has one process where
nothing is distributed. It holds the limits of what the run may spend, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.engines.base import ModelIdentity
from constitute.errors import EngineError, RunMismatch
from constitute.pipeline import shards
from constitute.pipeline.budget import Budget, Limits, Spent
from constitute.pipeline.chain import expected_rows
from constitute.pipeline.plan import claim_chain, plan_chain
from constitute.pipeline.session import open_store
from constitute.progress import Silent
from constitute.store.manifest import save_config, write_manifest
from constitute.store.relay import Write, ended_rows
from constitute.store.unfinished import begin, end

# Times that a worker may die without a row that ended since it was started.
_MOST_DEATHS = 3
# (what, stage, status of a row or a number): what a worker says of its progress.
Event = tuple[str, str, Any]
# What a question could cost at most, and what it did.
Given = tuple[Spent, Spent]


@dataclass(frozen=True)
class Answering:
    """The engine of a worker, as far as a claim goes."""

    identity: ModelIdentity


class Writer:
    """An actor; every method is called by Ray, one at a time except while `take` waits."""

    def __init__(self, config: RunConfig, total: int, part: shards.Part | None) -> None:
        self._config, self._total, self._part = config, total, part
        self._opened = ExitStack()
        self._claimed: tuple[ModelIdentity, ModelIdentity | None] | None = None
        self._events: list[Event] = []
        self._reserved: dict[str, list[Spent]] = defaultdict(list)
        self._ended = 0
        self._ended_at: dict[str, int] = {}
        self._deaths: dict[str, int] = {}

    async def open(self, limits: Limits) -> dict[str, int]:
        """Open the run; returns the rows of each stage that have ended. Raises as `open_store` does."""
        config = self._config
        self._store = self._opened.enter_context(open_store(config, Silent()))
        named = config.constitution
        self._constitution = load_constitution(named, config.tags) if named else None
        self._plan = plan_chain(config, self._constitution, config.chain, self._store, prompts=())
        self._budget = Budget.of(self._store, limits)
        return {stage: sum(self._store.counts(stage).values()) for stage in self._plan.steps}

    async def register(self, worker: str, model: ModelIdentity, judge: ModelIdentity | None) -> None:
        """Let a worker in, also one that died and was started anew.

        Raises `RunMismatch` where its models are not those of the run or of the other workers, and
        `EngineError` for one that only dies.
        """
        for most in self._reserved.pop(worker, []):
            self._budget.give(most, Spent())
        fruitless = self._ended_at.get(worker) == self._ended
        self._deaths[worker] = self._deaths.get(worker, 0) + 1 if fruitless else 0
        self._ended_at[worker] = self._ended
        if self._deaths[worker] >= _MOST_DEATHS:
            raise EngineError(
                f"a worker died {_MOST_DEATHS} times without ending a row; every answer is kept: run the "
                "same command without --on ray to see what its model does, or give it more memory"
            )
        if self._claimed is None:
            self._claim(model, judge)
            self._claimed = model, judge
        elif self._claimed != (model, judge):
            raise RunMismatch(
                f"two workers hold different models: {self._claimed[0]} and {model}; give all machines the "
                "same files and versions"
            )

    def _claim(self, model: ModelIdentity, judge: ModelIdentity | None) -> None:
        config, store, plan = self._config, self._store, self._plan
        asked = Answering(model)
        claim_chain(plan, asked, None if judge is None else Answering(judge), store)  # type: ignore[arg-type]
        save_config(config.run, config)
        shards.note(store, config, list(plan.steps), self._part, None)
        for stage in plan.steps:
            begin(store, stage, expected_rows(stage, plan, self._total, store))

    async def ended(self, prompts: Sequence[str]) -> list[tuple[Any, ...]]:
        """How what was made of the prompts has ended so far."""
        return ended_rows(self._store, self._plan.steps, prompts)

    async def exchange(
        self,
        worker: str,
        writes: Sequence[Write],
        keys: Sequence[str],
        given: Sequence[Given],
        events: Sequence[Event],
    ) -> dict[str, dict[str, Any]]:
        """Commit a worker's writes; then return the answers that are stored under `keys`."""
        if writes:
            self._store.apply(writes)
        for most, used in given:
            self._give(worker, most, used)
        self._events += events
        self._ended += sum(what == "advance" for what, _, _ in events)
        found = ((key, self._store.answer(key)) for key in keys)
        return {key: answer for key, answer in found if answer is not None}

    async def take(self, worker: str, most: Spent) -> None:
        """As `Budget.take`, for a question of a worker."""
        await self._budget.take(most)
        self._reserved[worker].append(most)

    def _give(self, worker: str, most: Spent, used: Spent) -> None:
        if not self._budget.limits.given:
            self._budget.spent = self._budget.spent.plus(used)
            self._budget.unsaved += 1
        elif most in self._reserved[worker]:
            self._reserved[worker].remove(most)
            self._budget.give(most, used)

    async def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    async def close(self, whole: bool) -> None:
        """Note that every row ended, where `whole`, write the manifest and close the run."""
        if self._claimed is not None:
            for stage in self._plan.steps if whole else ():
                end(self._store, stage)
            self._budget.save()
            write_manifest(self._store, self._config, self._constitution)
        self._opened.close()
