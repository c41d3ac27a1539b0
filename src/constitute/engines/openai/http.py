"""Post requests to a model's endpoints: slow down where asked, retry what passes, stop when all are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from constitute.engines.openai import verdicts
from constitute.engines.openai.lanes import Gate, Lane
from constitute.engines.openai.limits import Window, pause
from constitute.engines.openai.pool import Pool
from constitute.engines.openai.probe import Server
from constitute.engines.openai.reach import Access, Reply
from constitute.engines.openai.watch import Watch
from constitute.engines.openai.wire_in import message_of, tokens_used
from constitute.engines.openai.wire_out import Payload, cost_of
from constitute.errors import ConstituteError, EngineError, Filtered, PromptTooLong, Unanswered
from constitute.text import harmless

if TYPE_CHECKING:
    from constitute.config import EngineConfig

# Rows in a row that used up their retries, or were refused in the same words, before the server counts as
# gone; and tries in a row without a usable answer before one of several endpoints does.
_GIVE_UP_ROWS = 8


@dataclass(frozen=True)
class _Try:
    """What one try came to: the reply (status 0: none, for the reason in its body) of a lane.

    `moved`: the lane went down meanwhile, and the request goes to another one.
    """

    lane: Lane
    reply: Reply
    sent: float
    moved: bool


class Transport:
    """One model's endpoints, from any event loop."""

    def __init__(self, servers: Sequence[Server], access: Access, config: EngineConfig) -> None:
        self._server = servers[0]
        self._access = access
        self._config = config
        lanes = [Lane(server, Window(config.in_flight)) for server in servers]
        self._gate = Gate(lanes, config.requests_per_minute, config.tokens_per_minute)
        self._pool = Pool(access, self._gate.begin)
        self._watch = Watch(self._gate, self._pool, access, config.stall_s)
        self._limited_since: float | None = None
        self._exhausted = 0
        self._answered = False
        self._refused = ("", 0)

    async def post(self, path: str, payload: Payload) -> dict[str, Any]:
        """The parsed answer.

        Raises `RowError` for this row, `Unanswered` among them where it may be the server's fault, and
        `EngineError` once the server is gone or refuses everything.
        """
        tries, reason, avoid = 0, "", None
        while tries <= self._config.retries:
            found = await self._try(path, payload, avoid)
            lane, reply = found.lane, found.reply
            if found.moved:
                continue
            if reply.status == 429:
                self._slow_down(found)
                continue
            self._limited_since = None
            if reply.status == 200 and isinstance(reply.body, dict):
                self._was_answered(lane)
                return reply.body
            if reply.status not in (0, 200) and reply.status not in verdicts.RETRIED:
                raise self._final(lane, reply)
            if reply.status == 503 and reply.after is not None:
                lane.window.refused(found.sent, _now())
            reason = _reason(reply)
            self._in_trouble(lane, reason)
            tries, avoid = tries + 1, lane
            if tries <= self._config.retries:
                await asyncio.sleep(pause(tries - 1, reply.after))
        self._exhausted += 1
        sentence = f"{self._server.base} gave {reason} {self._config.retries + 1} times"
        if self._exhausted >= _GIVE_UP_ROWS:
            raise self._watch.die(
                EngineError(f"{sentence} for {self._exhausted} rows in a row; look at the server's log")
            )
        raise Unanswered(sentence)

    async def once(self, path: str, payload: dict[str, Any]) -> tuple[int, Any]:
        """(status, body) of one try, for a command that is not to be repeated blindly; status 0: no answer.

        Raises `EngineError` once the server is gone.
        """
        reply = (await self._try(path, payload, None)).reply
        return reply.status, reply.body

    async def close(self) -> None:
        """Close the connections of the current loop."""
        await self._pool.close()

    async def _try(self, path: str, payload: Payload, avoid: Lane | None) -> _Try:
        """One try in a lane that is up; raises `EngineError` once none is."""
        self._pool.open()
        if self._watch.dead is not None:
            raise self._watch.dead
        self._watch.look_at_those_down()
        cost = cost_of(payload) if self._config.tokens_per_minute else 0
        lane = await self._gate.enter(cost, avoid)
        sent = _now()
        try:
            reply = await self._attempt(lane, path, payload)
        finally:
            self._gate.leave(lane)
        if cost:
            # What was refused used nothing; what the server does not count stays as it was estimated.
            used = tokens_used(reply.body) if reply.status == 200 else 0
            self._gate.correct(cost, cost if used is None else used)
        moved = reply.status == 0 and bool(lane.down)
        if moved and self._watch.dead is not None:
            raise self._watch.dead
        return _Try(lane, reply, sent, moved)

    async def _attempt(self, lane: Lane, path: str, payload: Payload) -> Reply:
        """The reply; status 0 for a broken connection or no answer in time."""
        import aiohttp

        task = asyncio.ensure_future(self._pool.send(lane, path, payload))
        try:
            return await self._within_time(lane, task, path, payload)
        except aiohttp.ClientError as problem:
            return await self._broken(lane, problem)
        except TimeoutError:
            waited = f"no answer for {self._config.timeout_s:g} s"
            await self._watch.require_alive(lane, waited)
            if not lane.down and _now() - lane.last_answer > self._config.timeout_s:
                self._watch.take_out(lane, f"is up but gave {waited}; restart it")
            return Reply(0, waited)
        except OSError as problem:
            return await self._broken(lane, problem)

    async def _broken(self, lane: Lane, problem: Exception) -> Reply:
        kind = type(problem).__name__
        await self._watch.require_alive(lane, f"connection failed: {harmless(str(problem)) or kind}")
        return Reply(0, f"a broken connection ({kind})")

    async def _within_time(
        self, lane: Lane, task: asyncio.Future[Reply], path: str, payload: Payload
    ) -> Reply:
        """Wait for `task`, and look now and then whether a silent lane still works."""
        end = _now() + self._config.timeout_s
        try:
            while not lane.down:
                left = end - _now()
                if left <= 0:
                    raise TimeoutError
                done, _ = await asyncio.wait({task}, timeout=min(left, self._config.stall_s))
                if done:
                    return task.result()
                await self._watch.require_working(lane, path, payload)
            return Reply(0, lane.down)
        finally:
            task.cancel()

    def _was_answered(self, lane: Lane) -> None:
        lane.window.answered()
        lane.trouble = lane.slowed = 0
        self._exhausted = 0
        self._answered = True

    def _slow_down(self, found: _Try) -> None:
        """Let fewer out, after a pause; `EngineError` where nothing else came for `engine.timeout_s`."""
        lane, reply, now = found.lane, found.reply, _now()
        said = message_of(reply.body)
        if verdicts.out_of_quota(reply.body):
            raise self._watch.die(verdicts.spent(lane.server.base, said))
        if lane.window.refused(found.sent, now):
            lane.slowed += 1
        lane.not_before = max(lane.not_before, now + pause(lane.slowed, reply.after))
        self._limited_since = now if self._limited_since is None else self._limited_since
        if now - self._limited_since >= self._config.timeout_s:
            raise self._watch.die(verdicts.only_limited(lane.server.base, said, self._config.timeout_s))

    def _final(self, lane: Lane, reply: Reply) -> Exception:
        """The exception for a status that no retry mends."""
        server = lane.server
        problem = verdicts.error_for(
            reply.status,
            reply.body,
            url=server.base,
            model=server.model,
            served=server.served,
            key_env=self._access.key_env,
        )
        self._exhausted = 0
        if isinstance(problem, ConstituteError):
            return self._watch.die(problem)
        if self._answered or isinstance(problem, Filtered | PromptTooLong):
            return problem
        # Nothing was answered yet: what the server refuses may be the same in every row.
        said = message_of(reply.body)
        words = f"{reply.status} {verdicts.same_words(said)}"
        self._refused = (words, 1 + (self._refused[1] if self._refused[0] == words else 0))
        if self._refused[1] >= _GIVE_UP_ROWS:
            return self._watch.die(verdicts.refuses_all(server.base, reply.status, said, self._refused[1]))
        return Unanswered(str(problem))

    def _in_trouble(self, lane: Lane, reason: str) -> None:
        """Leave one of several endpoints out once it gives nothing usable."""
        lane.trouble += 1
        others = any(not other.down for other in self._gate.lanes if other is not lane)
        if others and lane.trouble >= _GIVE_UP_ROWS:
            self._watch.take_out(lane, f"gave {reason} {lane.trouble} times in a row")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _reason(reply: Reply) -> str:
    if reply.status == 200:
        return f"an answer that is no JSON object ({message_of(reply.body)[:80]!r})"
    return str(reply.body) if reply.status == 0 else f"status {reply.status} ({message_of(reply.body)})"
