"""An OpenAI-compatible server whose answers a test scripts; it runs in a thread with its own loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import web

# (status, body as JSON value or raw text, headers, seconds to wait first)
Answer = tuple[int, Any, dict[str, str], float]


def chat(text: str = "Hello.", reason: str = "stop", top: dict[str, float] | None = None) -> Any:
    """Body of a chat completion, with top log-probabilities of its first token where asked for."""
    choice: dict[str, Any] = {"message": {"content": text}, "finish_reason": reason}
    if top is not None:
        entries = [{"token": token, "logprob": value} for token, value in top.items()]
        choice["logprobs"] = {"content": [{"token": text, "logprob": 0.0, "top_logprobs": entries}]}
    return {"choices": [choice], "usage": {"prompt_tokens": 7}}


def answer(
    body: Any, status: int = 200, *, headers: dict[str, str] | None = None, wait: float = 0.0
) -> Answer:
    """One scripted answer."""
    return (status, body, headers or {}, wait)


class MockServer:
    """`script` holds the answers to come, in order; after them every request gets `default`."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.default: Answer = answer(chat())
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.models: Any = {"data": [{"id": "mock", "owned_by": "somebody"}]}
        self.models_status = 200
        # Bodies of POSTs to /collective_rpc; None for `control` answers 404, as a server without it does.
        self.calls: list[dict[str, Any]] = []
        self.control: Callable[[dict[str, Any]], Any] | None = None
        self.resets: list[bool] = []
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> MockServer:
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started.set,), daemon=True)
        self._thread.start()
        assert started.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Stop listening and drop every connection, as a crash would."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            asyncio.run_coroutine_threadsafe(runner.cleanup(), self._loop).result(60)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(60)

    def _serve(self, ready: Callable[[], None]) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/v1/completions", self._answer)
        app.router.add_get("/version", self._version)
        app.router.add_get("/health", self._version)
        app.router.add_post("/collective_rpc", self._control)
        app.router.add_post("/reset_prefix_cache", self._reset)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(self._runner.setup())
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        ready()
        self._loop.run_forever()

    async def _models(self, request: web.Request) -> web.Response:
        if isinstance(self.models, str):
            return web.Response(text=self.models, status=self.models_status, content_type="text/html")
        return web.json_response(self.models, status=self.models_status)

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        status, body, headers, wait = self.script.pop(0) if self.script else self.default
        await asyncio.sleep(wait)
        if isinstance(body, str):
            return web.Response(text=body, status=status, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "mock"})

    async def _control(self, request: web.Request) -> web.Response:
        """`control` gives one worker's result, or raises as a worker would."""
        if self.control is None:
            return web.json_response({"detail": "Not Found"}, status=404)
        self.calls.append(await request.json())
        try:
            return web.json_response({"results": [self.control(self.calls[-1])]})
        except Exception as problem:
            return web.json_response({"error": {"message": str(problem)}}, status=500)

    async def _reset(self, request: web.Request) -> web.Response:
        return web.json_response({"success": self.resets.pop(0) if self.resets else True})
