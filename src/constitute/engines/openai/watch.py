"""Look whether endpoints are there and still work; leave out those that are not, and bring them back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from constitute.engines.openai.lanes import Gate, Lane
from constitute.engines.openai.pool import Pool
from constitute.engines.openai.probe import check_same, read_models
from constitute.engines.openai.reach import Access
from constitute.engines.openai.wire_out import Payload
from constitute.errors import ConstituteError, EngineError

_LOOK_PAUSES_S = (0.0, 0.5, 1.0, 2.0)
# An endpoint that is down is looked at again after this time, doubled each time up to the cap.
_LOOK_AGAIN_S = 5.0
_LOOK_AGAIN_CAP_S = 60.0


class Watch:
    """Watches the lanes of `gate`; `silent_s` is how long a server may answer nothing at all."""

    def __init__(self, gate: Gate, pool: Pool, access: Access, silent_s: float) -> None:
        self._gate = gate
        self._pool = pool
        self._access = access
        self._silent_s = silent_s
        self.dead: ConstituteError | None = None

    def die(self, problem: ConstituteError) -> ConstituteError:
        """End every request, now and later, with the first such problem."""
        self.dead = self.dead or problem
        self._gate.fail(self.dead)
        return self.dead

    def take_out(self, lane: Lane, why: str) -> None:
        """Send nothing more to a lane; where it was the last one, end everything with the reasons."""
        lane.down = why
        self._later(lane)
        if all(each.down for each in self._gate.lanes):
            told = (f"the server at {each.server.base} {each.down}" for each in self._gate.lanes)
            self.die(EngineError("; ".join(told)))
        else:
            self._gate.wake()

    async def require_alive(self, lane: Lane, why: str) -> None:
        """Take the lane out unless it answers; whoever waits for it waits for the same look."""
        await self._look(lane, lambda: self._lives(lane, why))

    async def require_working(self, lane: Lane, path: str, payload: Payload) -> None:
        """Take the lane out where it has answered nothing for `silent_s`, and does not answer now either."""
        if asyncio.get_running_loop().time() - lane.last_answer >= self._silent_s:
            await self._look(lane, lambda: self._works(lane, path, payload))

    def look_at_those_down(self) -> None:
        """Begin to look at lanes that have been left out for long enough."""
        now = asyncio.get_running_loop().time()
        for lane in self._gate.lanes:
            if lane.down and lane.next_look <= now and (lane.looking is None or lane.looking.done()):
                lane.looking = asyncio.ensure_future(self._bring_back(lane))

    async def _look(self, lane: Lane, how: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if lane.down:
            return
        if lane.looking is None or lane.looking.done():
            lane.looking = asyncio.ensure_future(how())
        await asyncio.shield(lane.looking)

    async def _lives(self, lane: Lane, why: str) -> None:
        path = "/health" if lane.server.is_vllm else "/v1/models"
        for wait in _LOOK_PAUSES_S:
            await asyncio.sleep(wait)
            if await self._pool.look(lane, path) is not None:
                return
        self.take_out(lane, f"is gone ({why}); start it and run again")

    async def _works(self, lane: Lane, path: str, payload: Payload) -> None:
        """A list of models may be answered where completions hang: one token shows whether they do."""
        await self._lives(lane, f"nothing came for {self._silent_s:g} s")
        if lane.down:
            return
        budget = "max_tokens" if "max_tokens" in payload else "max_completion_tokens"
        small = asyncio.ensure_future(self._pool.send(lane, path, {**payload, budget: 1}))
        await asyncio.wait({small}, timeout=self._silent_s)
        small.cancel()
        await asyncio.gather(small, return_exceptions=True)
        if asyncio.get_running_loop().time() - lane.last_answer >= self._silent_s:
            self.take_out(
                lane,
                f"is up but answered nothing for {2 * self._silent_s:g} s, not even one token; restart it, "
                "or raise engine.stall_s where it is that slow",
            )

    async def _bring_back(self, lane: Lane) -> None:
        """Send to a lane again that answers and still serves the same model."""
        reply = await self._pool.look(lane, "/v1/models")
        self._later(lane)
        if reply is None:
            return
        server = lane.server
        try:
            seen = read_models(server.base, reply, self._access, server.model)
            check_same(server, replace(seen, is_vllm=server.is_vllm))
        except ConstituteError:
            return
        lane.down, lane.trouble = "", 0
        lane.last_answer = asyncio.get_running_loop().time()
        self._gate.wake()

    def _later(self, lane: Lane) -> None:
        wait = min(_LOOK_AGAIN_S * 2.0 ** min(lane.looks, 8), _LOOK_AGAIN_CAP_S)
        lane.looks += 1
        lane.next_look = asyncio.get_running_loop().time() + wait
