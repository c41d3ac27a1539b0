"""Which endpoint a request goes to, and when: the least busy one that is up, within all limits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from constitute.engines.openai.limits import Bucket, Window
from constitute.engines.openai.probe import Server


@dataclass
class Lane:
    """One endpoint and how it is doing; times are of the event loop's clock.

    `down` says why it is left out, empty while it is up. `trouble` counts tries in a row that got no usable
    answer, `slowed` the times in a row that it asked for less.
    """

    server: Server
    window: Window
    in_flight: int = 0
    not_before: float = 0.0
    slowed: int = 0
    trouble: int = 0
    down: str = ""
    next_look: float = 0.0
    looks: int = 0
    last_answer: float = 0.0
    looking: asyncio.Task[None] | None = None

    def may(self, now: float) -> bool:
        """Whether it takes one more request."""
        return not self.down and self.in_flight < self.window.limit and self.not_before <= now


@dataclass
class _Waiting:
    future: asyncio.Future[Lane]
    cost: int
    avoid: Lane | None


class Gate:
    """Lets requests through in their order; each takes a place in a lane and leaves it again."""

    def __init__(
        self, lanes: Sequence[Lane], requests_per_minute: int | None, tokens_per_minute: int | None
    ) -> None:
        self.lanes = list(lanes)
        self._requests = Bucket(requests_per_minute) if requests_per_minute else None
        self._tokens = Bucket(tokens_per_minute) if tokens_per_minute else None
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, cost: int, avoid: Lane | None = None) -> Lane:
        """A place in the least busy lane, in another one than `avoid` where there is a choice.

        `cost` is in tokens. Raises what `fail` was given.
        """
        waiting = _Waiting(asyncio.get_running_loop().create_future(), cost, avoid)
        self._waiting.append(waiting)
        self.wake()
        try:
            return await waiting.future
        except asyncio.CancelledError:
            if waiting.future.done() and not waiting.future.cancelled() and not waiting.future.exception():
                self.leave(waiting.future.result())
            raise

    def leave(self, lane: Lane) -> None:
        """Give the place back."""
        lane.in_flight -= 1
        self.wake()

    def correct(self, cost: int, used: int) -> None:
        """Settle an estimate of tokens with what the answer said."""
        if self._tokens is not None:
            self._tokens.take(used - cost)

    def wake(self) -> None:
        """Let through whoever can go now, and come back when the next can."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting:
            first = self._waiting[0]
            if first.future.done():
                self._waiting.popleft()
                continue
            ready = [lane for lane in self.lanes if lane.may(now)]
            wait = max(self._ceilings(now, first.cost), 0.0 if ready else self._next_opening(now))
            if wait > 0.0:
                if wait < float("inf"):
                    self._timer = loop.call_later(wait, self.wake)
                return
            self._waiting.popleft()
            others = [lane for lane in ready if lane is not first.avoid]
            lane = min(others or ready, key=lambda each: each.in_flight / each.window.limit)
            self._take(first.cost)
            lane.in_flight += 1
            first.future.set_result(lane)

    def fail(self, problem: Exception) -> None:
        """Nobody goes through any more: everyone who waits gets `problem`."""
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(problem)

    def begin(self) -> None:
        """Begin in another event loop: nothing of an earlier one is waited for."""
        self._waiting.clear()
        self._timer = None
        now = asyncio.get_running_loop().time()
        for lane in self.lanes:
            lane.in_flight = 0
            lane.looking = None
            lane.last_answer = now

    def _take(self, cost: int) -> None:
        if self._requests is not None:
            self._requests.take(1)
        if self._tokens is not None:
            self._tokens.take(cost)

    def _ceilings(self, now: float, cost: int) -> float:
        waits = [0.0]
        if self._requests is not None:
            waits.append(self._requests.wait(now, 1))
        if self._tokens is not None:
            waits.append(self._tokens.wait(now, cost))
        return max(waits)

    def _next_opening(self, now: float) -> float:
        """Seconds until a lane that asked for a pause has had it; inf where a place must come free."""
        paused = [
            lane.not_before - now
            for lane in self.lanes
            if not lane.down and lane.not_before > now and lane.in_flight < lane.window.limit
        ]
        return min(paused, default=float("inf"))
