"""A worker uses an answer when the process that keeps the run has it, and not before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedEngine

from constitute.errors import StorageError
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Silent
from constitute.store import Store
from constitute.store.relay import RelayStore, ended_rows
from constitute.types import Message, Outcome, Request

REQUEST = Request(messages=(Message(role="user", content="Well?"),))


class Held:
    """A relay that acknowledges when it is let, into a store of its own."""

    def __init__(self, kept: Store) -> None:
        self.kept, self.writes, self.let = kept, [], asyncio.Event()
        self.problem: Exception | None = None

    def write(self, query: str, values: tuple[Any, ...]) -> None:
        self.writes.append((query, values))

    async def known(self, key: str) -> dict[str, Any] | None:
        return self.kept.answer(key)

    async def acknowledged(self) -> None:
        await self.let.wait()
        if self.problem is not None:
            raise self.problem
        writes, self.writes = self.writes, []
        self.kept.apply(writes)


def stage(store: Store, engine: ScriptedEngine) -> StageRun:
    return StageRun("label", engine, store, 0, Silent())


async def test_an_answer_is_used_when_it_is_acknowledged(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with Store.open(tmp_path / "run") as kept, RelayStore.open(tmp_path / "worker") as worker:
        assert isinstance(worker, RelayStore)
        worker.relay = held = Held(kept)
        run = stage(worker, engine)
        one = asyncio.create_task(Sampler(run, "p/0-1").choose(REQUEST, ["A", "B"], step="label"))
        other = asyncio.create_task(Sampler(run, "q/0-1").choose(REQUEST, ["A", "B"], step="label"))
        for _ in range(50):
            await asyncio.sleep(0)
        third = asyncio.create_task(Sampler(run, "r/0-1").choose(REQUEST, ["A", "B"], step="label"))
        for _ in range(50):
            await asyncio.sleep(0)
        # The answer is in the worker's own store, and nobody may have it yet.
        assert engine.asked.total() == 1 and len(held.writes) == 1
        assert not (one.done() or other.done() or third.done()) and kept.empty()
        held.let.set()
        assert await one == await other == await third
        assert not kept.empty() and engine.asked.total() == 1


async def test_an_answer_of_another_worker_is_not_asked_for_again(tmp_path: Path) -> None:
    first, second = ScriptedEngine(), ScriptedEngine()
    with Store.open(tmp_path / "run") as kept:
        found = []
        for name, engine in (("a", first), ("b", second)):
            with RelayStore.open(tmp_path / name) as worker:
                assert isinstance(worker, RelayStore)
                worker.relay = held = Held(kept)
                held.let.set()
                sampler = Sampler(stage(worker, engine), "p/0")
                found.append(await sampler.generate(REQUEST, step="response"))
        assert found[0] == found[1]
        assert (first.asked.total(), second.asked.total()) == (1, 0)


async def test_an_answer_that_cannot_be_kept_is_not_used(tmp_path: Path) -> None:
    with Store.open(tmp_path / "run") as kept, RelayStore.open(tmp_path / "worker") as worker:
        assert isinstance(worker, RelayStore)
        worker.relay = held = Held(kept)
        held.problem = StorageError("the disk is full")
        held.let.set()
        with pytest.raises(StorageError, match="the disk is full"):
            await Sampler(stage(worker, ScriptedEngine()), "p/0").generate(REQUEST, step="response")


def test_a_worker_takes_over_the_rows_of_its_prompts(tmp_path: Path) -> None:
    """Of the prompt p, and not of p0 or p/0's namesake; nothing is sent back."""
    names = ["p/0", "p/1", "p0/0", "q/0"]
    with Store.open(tmp_path / "run") as kept, RelayStore.open(tmp_path / "worker") as worker:
        assert isinstance(worker, RelayStore)
        for at, name in enumerate(names):
            outcome = Outcome(row_id=name, position=at, status="failed", reason="x")
            kept.put_outcome("generate", outcome, f"h{at}")
        worker.relay = held = Held(kept)
        worker.take(ended_rows(kept, ["generate", "label"], ["p", "q"]))
        assert held.writes == []
        assert [outcome.row_id for outcome in worker.outcomes("generate")] == ["p/0", "p/1", "q/0"]
        assert worker.ended("generate", "p/1") == kept.ended("generate", "p/1")


def test_writes_are_committed_together_or_not_at_all(tmp_path: Path) -> None:
    with Store.open(tmp_path / "run") as store:
        good = ("INSERT INTO meta VALUES (?, ?)", ("a", "1"))
        with pytest.raises(StorageError):
            store.apply([good, ("INSERT INTO nowhere VALUES (1)", ())])
        assert store.meta("a") is None
        store.apply([good])
        assert store.meta("a") == 1
