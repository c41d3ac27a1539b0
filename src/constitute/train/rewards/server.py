"""Serve rewards over HTTP to several clients at once, on this machine unless told otherwise."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from constitute.errors import ConstituteError, DataError, EngineError, UsageError
from constitute.train.rewards import wire
from constitute.train.rewards.served import Rewarded, Rewarding
from constitute.train.rewards.wire import Asked

log = logging.getLogger(__name__)

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
BODY_CAP = 64 << 20
# Rows of one call of the model, from whatever requests are waiting.
_TOGETHER = 256
# Rows that wait at most; a client that comes then is told to come again.
_WAITING_CAP = 1 << 15


@dataclass(frozen=True)
class RewardServing:
    """Where rewards are served; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 5000
    allow_remote: bool = False

    def check(self) -> None:
        """Raise `UsageError` for a host that lets other machines in without being told to."""
        if self.host not in LOOPBACK and not self.allow_remote:
            raise UsageError(
                f"--host {self.host} would let other machines in, and the server asks for no password; use "
                "127.0.0.1, or add --allow-remote in a network that you trust"
            )


class Batcher:
    """Rewards rows of several requests together: what waits while the model works is its next batch."""

    def __init__(self, rewards: Rewarding) -> None:
        self._rewards = rewards
        self._waiting: list[tuple[Asked, asyncio.Future[Rewarded | str]]] = []
        self._awake = asyncio.Event()
        # One thread: models and a judge's connections are used by one caller at a time.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rewards")
        self.rows = self.batches = 0

    @property
    def waiting(self) -> int:
        """Rows that no batch has taken yet."""
        return len(self._waiting)

    async def score(self, rows: Sequence[Asked]) -> list[Rewarded | str]:
        """The rewards of rows, in their order; raises what the call of their batch raised."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Rewarded | str]] = [loop.create_future() for _ in rows]
        self._waiting += zip(rows, futures, strict=True)
        self._awake.set()
        try:
            return list(await asyncio.gather(*futures))
        finally:
            # A client that went away leaves rows that nobody waits for.
            for future in futures:
                future.cancel()

    async def work(self) -> None:
        """Reward what waits, batch by batch, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._awake.wait()
                batch = [pair for pair in self._waiting[:_TOGETHER] if not pair[1].done()]
                del self._waiting[:_TOGETHER]
                if not self._waiting:
                    self._awake.clear()
                if batch:
                    await self._reward(loop, batch)
        finally:
            self._thread.shutdown(wait=True)

    async def _reward(
        self, loop: asyncio.AbstractEventLoop, batch: list[tuple[Asked, asyncio.Future[Rewarded | str]]]
    ) -> None:
        self.batches += 1
        try:
            found = await loop.run_in_executor(self._thread, self._rewards, [row for row, _ in batch])
        except Exception as problem:
            for _, future in batch:
                if not future.done():
                    future.set_exception(problem)
            return
        self.rows += len(batch)
        for (_, future), value in zip(batch, found, strict=True):
            if not future.done():
                future.set_result(value)


def application(
    names: Sequence[str], rewards: Rewarding, hosts: frozenset[str] | None = LOOPBACK
) -> web.Application:
    """The web application: POST /get_reward and /classify, GET /health; for `hosts`, None for any."""
    batcher = Batcher(rewards)

    async def get_reward(request: web.Request) -> web.Response:
        found = await _rewarded(request, wire.read_request, batcher)
        if isinstance(found, web.Response):
            return found
        parts = {name: [row.parts[name] for row in found] for name in names}
        return web.json_response(wire.answer([row.reward for row in found], parts))

    async def classify(request: web.Request) -> web.Response:
        found = await _rewarded(request, wire.read_classify, batcher)
        if isinstance(found, web.Response):
            return found
        return web.json_response(wire.classified([row.reward for row in found], "+".join(names)))

    async def health(request: web.Request) -> web.Response:
        told = {"rows": batcher.rows, "batches": batcher.batches, "waiting": batcher.waiting}
        return web.json_response({"status": "ok", "rewards": list(names), **told})

    async def working(app: web.Application) -> Any:
        task = asyncio.create_task(batcher.work())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app = web.Application(client_max_size=BODY_CAP, middlewares=[_guard(hosts)])
    app.add_routes([web.post("/get_reward", get_reward), web.post("/", get_reward)])
    app.add_routes([web.post("/classify", classify), web.get("/health", health)])
    app.cleanup_ctx.append(working)
    return app


async def _rewarded(
    request: web.Request, read: Callable[[Any], list[Asked]], batcher: Batcher
) -> list[Rewarded] | web.Response:
    """The rewards of a request's rows, or the answer that says why there are none."""
    try:
        rows = read(json.loads(await request.read()))
        if batcher.waiting + len(rows) > _WAITING_CAP:
            return _problem(503, f"{batcher.waiting} rows wait already; send fewer at once", retry_after=1)
        found = await batcher.score(rows)
    except web.HTTPRequestEntityTooLarge:
        return _problem(413, f"a request may have {BODY_CAP >> 20} MiB; send fewer rows at once")
    except ValueError as problem:
        told = str(problem) if isinstance(problem, DataError) else f"the body is no JSON ({problem})"
        return _problem(400, told)
    except EngineError as problem:
        return _problem(503, str(problem), retry_after=5)
    except ConstituteError as problem:
        return _problem(422, str(problem))
    except Exception as problem:
        log.exception("a batch of rewards failed")
        return _problem(500, f"{type(problem).__name__}: {problem}"[:500])
    bad = {row: value for row, value in enumerate(found) if isinstance(value, str)}
    if bad:
        row, why = next(iter(bad.items()))
        return _problem(422, f"row {row}: {why}", rows={str(place): reason for place, reason in bad.items()})
    return [value for value in found if isinstance(value, Rewarded)]


def _problem(status: int, message: str, retry_after: int | None = None, **more: Any) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.json_response({"error": message, **more}, status=status, headers=headers)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _guard(hosts: frozenset[str] | None) -> Any:
    """Refuse other hosts and origins: a web page could make this machine's browser ask (DNS rebinding)."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        header = request.headers.get("Host", "")
        asked = urlsplit(f"//{header}").hostname or ""
        if hosts is not None and asked.lower() not in hosts:
            return _problem(403, f"this server answers to {', '.join(sorted(hosts))}, not to {asked[:100]!r}")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != header.lower():
            return _problem(403, "this server answers no web page of another origin")
        return await handler(request)

    return guard


async def serve(
    names: Sequence[str], rewards: Rewarding, where: RewardServing, ready: Callable[[str], None]
) -> None:
    """Serve until cancelled; `ready` gets the URL of `/get_reward`.

    Raises `UsageError` for a place that cannot be listened at.
    """
    where.check()
    # By which names other machines know this one is not known here.
    app = application(names, rewards, LOOPBACK if where.host in LOOPBACK else None)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, where.host, where.port).start()
        except OSError as problem:
            raise UsageError(
                f"port {where.port} on {where.host} cannot be used ({problem.strerror}); stop what listens "
                "there or give another --port"
            ) from problem
        host, port = runner.addresses[0][:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/get_reward")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
