"""What each actor does: lead prompts through the chain with an engine of its own, and send all it learns.

Nothing is used before the writer has acknowledged it. What is to be sent goes in one message as long as the
one before is on its way, so a busy worker sends few large messages.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.engines import open_engine
from constitute.engines.base import Engine
from constitute.errors import ConstituteError
from constitute.pipeline.budget import Budget, Limits, Spent
from constitute.pipeline.chain import run_chain
from constitute.pipeline.plan import check_abilities, plan_chain
from constitute.runners.ray.writer import Event, Given
from constitute.store.relay import RelayStore, Write
from constitute.types import Prompt


class Sender:
    """A worker's `Relay` to the writer, in one event loop."""

    def __init__(self, writer: Any, worker: str) -> None:
        self._writer, self._worker = writer, worker
        self._writes: list[Write] = []
        self._keys: dict[str, asyncio.Future[dict[str, Any] | None]] = {}
        self._given: list[Given] = []
        self._events: list[Event] = []
        self._written = self._kept = 0
        self._sending: asyncio.Task[None] | None = None

    def write(self, query: str, values: tuple[Any, ...]) -> None:
        """Send a statement."""
        self._writes.append((query, values))
        self._written += 1
        self._send()

    async def known(self, key: str) -> dict[str, Any] | None:
        """The stored answer under a key."""
        if key not in self._keys:
            self._keys[key] = asyncio.get_running_loop().create_future()
        found = self._keys[key]
        self._send()
        return await asyncio.shield(found)

    async def acknowledged(self) -> None:
        """Return when everything written so far is on disk."""
        written = self._written
        while self._kept < written:
            self._send()
            assert self._sending is not None
            await asyncio.shield(self._sending)

    def give(self, most: Spent, used: Spent) -> None:
        """Send what a question cost."""
        self._given.append((most, used))
        self._send()

    def tell(self, event: Event) -> None:
        """Send a sign of progress, with what was written before it."""
        self._events.append(event)
        self._send()

    async def take(self, most: Spent) -> None:
        """Reserve what a question may cost at most. Raises `LimitReached`."""
        await self._ask(self._writer.take.remote(self._worker, most))

    async def ended(self, prompts: Sequence[str]) -> list[tuple[Any, ...]]:
        """How what was made of the prompts has ended so far."""
        found: list[tuple[Any, ...]] = await self._ask(self._writer.ended.remote(prompts))
        return found

    async def register(self, engine: Engine, judge: Engine | None) -> None:
        """Tell the writer who answers here. Raises `RunMismatch`."""
        other = None if judge is None else judge.identity
        await self._ask(self._writer.register.remote(self._worker, engine.identity, other))

    def _send(self) -> None:
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._exchange())

    async def _exchange(self) -> None:
        while self._writes or self._keys or self._given or self._events:
            writes, self._writes = self._writes, []
            keys, self._keys = self._keys, {}
            given, self._given = self._given, []
            events, self._events = self._events, []
            message = self._writer.exchange.remote(self._worker, writes, list(keys), given, events)
            try:
                found = await self._ask(message)
            except BaseException as problem:
                for waiting in keys.values():
                    waiting.set_exception(problem)
                    waiting.exception()
                raise
            self._kept += len(writes)
            for key, waiting in keys.items():
                waiting.set_result(found.get(key))

    async def _ask(self, message: Any) -> Any:
        """What the writer returns, or what it raised itself, without Ray's words around it."""
        from ray.exceptions import RayTaskError

        try:
            return await message
        except RayTaskError as problem:
            if isinstance(problem.cause, ConstituteError):
                raise problem.cause from None
            raise


class SentBudget(Budget):
    """The run's budget, which the writer holds."""

    def __init__(self, store: RelayStore, limits: Limits, sender: Sender) -> None:
        super().__init__(store, limits)
        self._sender = sender

    async def take(self, most: Spent) -> None:
        """As `Budget.take`, of what all workers spend."""
        if self.limits.given:
            await self._sender.take(most)

    def give(self, most: Spent, used: Spent) -> None:
        """As `Budget.give`."""
        self._sender.give(most, used)

    def save(self) -> None:
        """The writer saves."""


class SentProgress:
    """A `Progress` that is shown where the run was started."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def start(self, stage: str, total: int | None = None, done: int = 0) -> None: ...

    def advance(self, stage: str, status: str = "ok", **figures: float) -> None:
        self._sender.tell(("advance", stage, status))

    def part(self, stage: str, share: float) -> None: ...

    def tokens(self, stage: str, count: int) -> None:
        self._sender.tell(("tokens", stage, count))

    def note(self, text: str) -> None:
        self._sender.tell(("note", "", text))

    def waiting(self, text: str) -> AbstractContextManager[None]:
        return nullcontext()

    def finish(self, stage: str) -> None: ...


class Worker:
    """An actor of `ray.data`: one engine, one event loop, several batches of prompts at a time."""

    def __init__(self, config: RunConfig, limits: Limits, writer: Any) -> None:
        self._config, self._limits, self._writer = config, limits, writer
        self._loop = asyncio.new_event_loop()
        self._engines: asyncio.Future[tuple[Engine, Engine | None, Sender]] | None = None
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Run the batches in `batch["job"]`, and say of each how its rows ended, or what stopped the run."""
        done = [
            asyncio.run_coroutine_threadsafe(self._run(str(text)), self._loop).result()
            for text in batch["job"]
        ]
        return {"done": [json.dumps(each) for each in done]}

    async def _run(self, text: str) -> dict[str, Any]:
        rows = [(place, Prompt.model_validate(value)) for place, value in json.loads(text)]
        try:
            engine, judge, sender = await self._ready()
            return {"counts": await self._chain(rows, engine, judge, sender)}
        except ConstituteError as problem:
            return {"error": type(problem).__name__, "said": str(problem)}

    async def _ready(self) -> tuple[Engine, Engine | None, Sender]:
        if self._engines is None:
            self._engines = self._loop.create_future()
            try:
                self._engines.set_result(await self._open())
            except BaseException as problem:
                self._engines.set_exception(problem)
        return await asyncio.shield(self._engines)

    async def _open(self) -> tuple[Engine, Engine | None, Sender]:
        import ray

        config = self._config
        judged = config.judge is not None and self._plan_without_rows().last.reads == "pair"
        # Loading blocks; nothing else runs here before it is done.
        engine = open_engine(str(config.model), config.engine)
        judge = open_engine(str(config.judge), config.engine) if judged else None
        check_abilities(self._plan_without_rows(), engine, judge)
        sender = Sender(self._writer, str(ray.get_runtime_context().get_actor_id()))
        for note in (note for asked in (engine, judge) for note in getattr(asked, "notes", ())):
            sender.tell(("note", "", note))
        await sender.register(engine, judge)
        return engine, judge, sender

    def _plan_without_rows(self) -> Any:
        return self._plan(None, (), ())

    def _plan(self, store: Any, prompts: Sequence[Prompt], places: Sequence[int]) -> Any:
        config = self._config
        constitution = load_constitution(config.constitution, config.tags) if config.constitution else None
        return plan_chain(config, constitution, config.chain, store, prompts=prompts, places=places)

    async def _chain(
        self, rows: Sequence[tuple[int, Prompt]], engine: Engine, judge: Engine | None, sender: Sender
    ) -> dict[str, Any]:
        ended = await sender.ended([prompt.id for _, prompt in rows])
        with (
            TemporaryDirectory(prefix="constitute-") as folder,
            RelayStore.open(Path(folder) / "run") as opened,
        ):
            assert isinstance(opened, RelayStore)
            opened.take(ended)
            opened.relay = sender
            plan = self._plan(opened, [prompt for _, prompt in rows], [place for place, _ in rows])
            counts = await run_chain(
                plan,
                engine,
                opened,
                judge=judge,
                progress=SentProgress(sender),
                total=len(rows),
                budget=SentBudget(opened, self._limits, sender),
            )
            await sender.acknowledged()
        return {stage: count.model_dump(mode="json") for stage, count in counts.items()}
