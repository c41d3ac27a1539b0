"""Post requests to a server, with a limit on retries and time, and stop soon after the server is gone."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from constitute.engines.openai.wire import error_for, message_of
from constitute.errors import EngineError, RowError, Unanswered

if TYPE_CHECKING:
    import aiohttp

    from constitute.config import EngineConfig
    from constitute.engines.openai.probe import Server

_RETRIED = frozenset({408, 409, 425, 429}) | frozenset(range(500, 600))
_BODY_CAP = 64 << 20
# uvicorn closes a connection that is idle for 5 s; a longer time here would send requests to closed ones.
_KEEP_ALIVE_S = 3.0
_BACKOFF_S = 0.5
_BACKOFF_CAP_S = 8.0
_RETRY_AFTER_CAP_S = 60.0
_PROBE_TIMEOUT_S = 3.0
_PROBE_PAUSES_S = (0.0, 0.5, 1.0, 2.0)
# Rows in a row that used up their retries before the server counts as gone.
_GIVE_UP_ROWS = 8


class Transport:
    """The HTTP connections to one server; each event loop gets its own."""

    def __init__(self, server: Server, key: str, config: EngineConfig) -> None:
        self._server = server
        self._key = key
        self._config = config
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dead: EngineError | None = None
        self._probing: asyncio.Task[bool] | None = None
        self._last_answer = 0.0
        self._exhausted = 0

    async def post(self, path: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The parsed answer. Raises `RowError` for this row, `EngineError` once the server is gone."""
        reason = "no answer"
        for attempt in range(self._config.retries + 1):
            if self._dead is not None:
                raise self._dead
            status, body, retry_after = await self._attempt(path, payload)
            if status == 200 and isinstance(body, dict):
                self._exhausted = 0
                return body
            if status == 200:
                reason = f"an answer that is no JSON object ({message_of(body)[:80]!r})"
            elif status == 0:
                reason = str(body)
            elif status not in _RETRIED:
                self._exhausted = 0
                raise self._final(status, body)
            else:
                reason = f"status {status} ({message_of(body)})"
            if attempt < self._config.retries:
                await asyncio.sleep(_pause(attempt, retry_after))
        self._exhausted += 1
        sentence = f"{self._server.base} gave {reason} {self._config.retries + 1} times"
        if self._exhausted >= _GIVE_UP_ROWS:
            self._dead = EngineError(
                f"{sentence} for {self._exhausted} rows in a row; look at the server's log"
            )
            raise self._dead
        raise Unanswered(self._hidden(sentence))

    async def once(self, path: str, payload: dict[str, Any]) -> tuple[int, Any]:
        """(status, body) of one try, for a command that is not to be repeated blindly; status 0: no answer.

        Raises `EngineError` once the server is gone.
        """
        if self._dead is not None:
            raise self._dead
        status, body, _ = await self._attempt(path, payload)
        return status, body

    async def close(self) -> None:
        """Close the pool of the current loop."""
        if self._session is not None and self._loop is asyncio.get_running_loop():
            await self._session.close()
        self._session = None

    async def _attempt(self, path: str, payload: dict[str, Any]) -> tuple[int, Any, str | None]:
        """(status, body, Retry-After) of one try; status 0 for a broken connection or no answer in time."""
        import aiohttp

        try:
            return await self._within_time(asyncio.ensure_future(self._send(path, payload)))
        except aiohttp.ClientError as problem:
            await self._require_alive(f"connection failed: {problem or type(problem).__name__}")
            return 0, f"a broken connection ({type(problem).__name__})", None
        except TimeoutError:
            waited = f"no answer for {self._config.timeout_s:g} s"
            await self._require_alive(waited)
            if asyncio.get_running_loop().time() - self._last_answer > self._config.timeout_s:
                self._dead = EngineError(f"{self._server.base} is up but gave {waited}; restart it")
                raise self._dead from None
            return 0, waited, None

    async def _within_time(
        self, task: asyncio.Future[tuple[int, Any, str | None]]
    ) -> tuple[int, Any, str | None]:
        """Wait for `task`; probe the server's health whenever no answer at all came for `engine.stall_s`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._config.timeout_s
        try:
            while True:
                left = end - loop.time()
                if left <= 0:
                    raise TimeoutError
                done, _ = await asyncio.wait({task}, timeout=min(left, self._config.stall_s))
                if done:
                    return task.result()
                if loop.time() - self._last_answer >= self._config.stall_s:
                    await self._require_alive(f"nothing came for {self._config.stall_s:g} s")
        finally:
            task.cancel()

    async def _send(self, path: str, payload: dict[str, Any]) -> tuple[int, Any, str | None]:
        url = self._server.base + path
        async with self._pool().post(url, json=payload, allow_redirects=False) as answer:
            data = bytearray()
            async for chunk in answer.content.iter_chunked(1 << 16):
                data += chunk
                if len(data) > _BODY_CAP:
                    raise RowError(f"the server's answer exceeds {_BODY_CAP >> 20} MiB")
            self._last_answer = asyncio.get_running_loop().time()
            try:
                body = json.loads(data)
            except ValueError:
                body = data[:300].decode("utf-8", "replace")
            return answer.status, body, answer.headers.get("Retry-After")

    def _pool(self) -> aiohttp.ClientSession:
        import aiohttp

        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._config.in_flight, keepalive_timeout=_KEEP_ALIVE_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            self._loop = loop
            self._last_answer = loop.time()
            self._probing = None
        return self._session

    async def _require_alive(self, why: str) -> None:
        """Raise `EngineError`, now and for every later request, unless the server answers a probe."""
        if self._dead is not None:
            raise self._dead
        if self._probing is None or self._probing.done():
            self._probing = asyncio.ensure_future(self._probe())
        if not await asyncio.shield(self._probing):
            self._dead = self._dead or EngineError(
                self._hidden(f"the server at {self._server.base} is gone ({why}); start it and run again")
            )
            raise self._dead

    async def _probe(self) -> bool:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
        path = "/health" if self._server.is_vllm else "/v1/models"
        for pause in _PROBE_PAUSES_S:
            await asyncio.sleep(pause)
            try:
                async with self._pool().get(
                    self._server.base + path, timeout=timeout, allow_redirects=False
                ) as answer:
                    if answer.status < 500:
                        return True
            except (aiohttp.ClientError, TimeoutError):
                continue
        return False

    def _final(self, status: int, body: Any) -> Exception:
        served: Sequence[str] = self._server.served
        error = error_for(
            status,
            self._hidden(message_of(body)),
            url=self._server.base,
            model=self._server.model,
            served=served,
            key_env=self._config.api_key_env,
        )
        if isinstance(error, EngineError):
            self._dead = error
        return error

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _pause(attempt: int, retry_after: str | None) -> float:
    """Seconds before the next try: what the server asks for, up to a cap, else a doubling random time."""
    if retry_after is not None and retry_after.strip().isdigit():
        return min(float(retry_after), _RETRY_AFTER_CAP_S)
    longest = min(_BACKOFF_S * 2.0**attempt, _BACKOFF_CAP_S)
    return random.uniform(longest / 2, longest)
