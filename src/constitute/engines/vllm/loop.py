"""Drive vLLM's engine from an asyncio loop: one task steps it while anything is pending.

Requests join between two steps, so a chain's next question enters the batch as soon as its last answer
leaves it, and no second process or thread shares the cores (measured in `benchmarks/`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from constitute.errors import EngineError, RowError

# Called once with the finished output, or with the error that ended the engine.
Waiter = Callable[[Any, EngineError | None], None]


class StepLoop:
    """Owns the requests inside one `LLMEngine`; not thread-safe, and used from one loop at a time."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._waiters: dict[str, Waiter] = {}
        self._numbers = count()
        self._driver: asyncio.Task[None] | None = None
        self._dead: EngineError | None = None

    @property
    def pending(self) -> int:
        """Requests handed to the engine and not answered yet."""
        return len(self._waiters)

    async def submit(self, prompt: Sequence[int], params: Any) -> Any:
        """The finished `RequestOutput` for token ids; cancelling the caller aborts the request."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(output: Any, error: EngineError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(output)
            else:
                future.set_exception(error)

        number = self._add(prompt, params, settle)
        if self._driver is None or self._driver.done() or self._driver.get_loop() is not loop:
            self._driver = loop.create_task(self._drive())
        try:
            return await future
        finally:
            if self._waiters.pop(number, None) is not None:
                self._engine.abort_request([number])

    def run(self, prompts: Sequence[Sequence[int]], params: Sequence[Any]) -> list[Any]:
        """Block until every prompt is answered; outputs in the order of the prompts."""
        outputs: dict[int, Any] = {}
        failures: list[EngineError] = []

        def waiter(index: int) -> Waiter:
            def settle(output: Any, error: EngineError | None) -> None:
                if error is not None:
                    failures.append(error)
                outputs[index] = output

            return settle

        numbers = []
        try:
            for index, (prompt, setting) in enumerate(zip(prompts, params, strict=True)):
                numbers.append(self._add(prompt, setting, waiter(index)))
            while len(outputs) < len(prompts):
                self._step()
        finally:
            left = [number for number in numbers if self._waiters.pop(number, None) is not None]
            if left:
                self._engine.abort_request(left)
        if failures:
            raise failures[0]
        return [outputs[index] for index in range(len(prompts))]

    def close(self) -> None:
        """End every waiter and refuse further requests."""
        self._fail(EngineError("the vLLM engine was closed; open it again to go on"))

    def _add(self, prompt: Sequence[int], params: Any, waiter: Waiter) -> str:
        if self._dead is not None:
            raise self._dead
        number = str(next(self._numbers))
        try:
            self._engine.add_request(number, {"prompt_token_ids": list(prompt)}, params)
        except ValueError as problem:
            raise RowError(f"vLLM refuses the request: {problem}") from problem
        self._waiters[number] = waiter
        return number

    async def _drive(self) -> None:
        while self._waiters:
            finished = self._step()
            # Coroutines woken by a finished request put their next question before the next step;
            # a few turns let those that hand over to another task get there too.
            for _ in range(3 if finished else 1):
                await asyncio.sleep(0)

    def _step(self) -> int:
        try:
            outputs = self._engine.step()
        except Exception as problem:
            # After any exception the engine's state is unknown, and every waiting request must end.
            self._fail(
                EngineError(f"vLLM stopped ({type(problem).__name__}: {problem}); start the run again")
            )
            return 0
        finished = 0
        for output in outputs:
            if output.finished and (waiter := self._waiters.pop(output.request_id, None)):
                waiter(output, None)
                finished += 1
        if not outputs and self._waiters and not self._engine.has_unfinished_requests():
            self._fail(EngineError("vLLM lost requests it had accepted; start the run again"))
        return finished

    def _fail(self, error: EngineError) -> None:
        self._dead = error
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter(None, error)
