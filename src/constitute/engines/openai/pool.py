"""The HTTP connections of one event loop: send a request to a lane and read all of its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from constitute.engines.openai import verdicts
from constitute.engines.openai.lanes import Lane
from constitute.engines.openai.limits import retry_after
from constitute.engines.openai.reach import Access, Reply, proxy_for
from constitute.engines.openai.wire_in import parsed
from constitute.engines.openai.wire_out import Payload, answer_cap
from constitute.errors import RowError

if TYPE_CHECKING:
    import aiohttp

# uvicorn closes a connection that is idle for 5 s; a longer time here would send requests to closed ones.
_KEEP_ALIVE_S = 3.0
_LOOK_TIMEOUT_S = 3.0
_LOOK_CAP = 4 << 20


class Pool:
    """Connections with the key `access`; `begin` is called whenever another event loop takes over."""

    def __init__(self, access: Access, begin: Callable[[], None]) -> None:
        self._access = access
        self._begin = begin
        self._proxies: dict[str, str | None] = {}
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> aiohttp.ClientSession:
        """The session of the running event loop."""
        import aiohttp

        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._session = aiohttp.ClientSession(
                # The gate holds requests back; one that looks whether a lane works must not wait for others.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
                headers=self._access.headers(),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            self._loop = loop
            self._begin()
        return self._session

    async def close(self) -> None:
        """Close the session of the running event loop."""
        if self._session is not None and self._loop is asyncio.get_running_loop():
            await self._session.close()
        self._session = None

    async def send(self, lane: Lane, path: str, payload: Payload) -> Reply:
        """The reply to a POST. Raises `RowError` for a body larger than the payload asked for."""
        url, cap = lane.server.base + path, answer_cap(payload)
        async with self.open().post(
            url, json=payload, allow_redirects=False, proxy=self._proxy(lane)
        ) as answer:
            data = bytearray()
            async for chunk in answer.content.iter_chunked(1 << 16):
                data += chunk
                if len(data) > cap:
                    raise RowError(
                        f"the server's answer exceeds {cap >> 10} KiB, far more than was asked for"
                    )
            lane.last_answer = asyncio.get_running_loop().time()
            headers = {name.lower(): value for name, value in answer.headers.items()}
            body = parsed(self._access.hide(bytes(data)))
            status = answer.status
            if status == 200:
                status = verdicts.in_an_answer(body) or 200
            return Reply(status, body, retry_after(headers, time.time()))

    async def look(self, lane: Lane, path: str) -> Reply | None:
        """The reply to a GET; None where none comes, or the server says that it is broken."""
        import aiohttp

        try:
            async with self.open().get(
                lane.server.base + path,
                timeout=aiohttp.ClientTimeout(total=_LOOK_TIMEOUT_S),
                allow_redirects=False,
                proxy=self._proxy(lane),
            ) as answer:
                if answer.status >= 500:
                    return None
                data = await answer.content.read(_LOOK_CAP)
                return Reply(answer.status, parsed(self._access.hide(data)))
        except (aiohttp.ClientError, OSError):
            return None

    def _proxy(self, lane: Lane) -> str | None:
        base = lane.server.base
        if base not in self._proxies:
            self._proxies[base] = proxy_for(base)
        return self._proxies[base]
