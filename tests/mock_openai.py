"""An OpenAI-compatible server whose answers a test scripts; it runs in a thread with its own loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

# The words of the one tiny request that an engine makes when it is opened.
from constitute.engines.openai.abilities import FIRST_WORDS

# (status, body as JSON value, raw text or bytes, headers, seconds to wait first)
Answer = tuple[int, Any, dict[str, str], float]


def chat(text: str = "Hello.", reason: str = "stop", top: dict[str, float] | None = None) -> Any:
    """Body of a chat completion, with top log-probabilities of its first token where asked for."""
    choice: dict[str, Any] = {"message": {"content": text}, "finish_reason": reason}
    if top is not None:
        choice["logprobs"] = {"content": [place(text, top)]}
    return {"choices": [choice], "usage": {"prompt_tokens": 7}}


def place(token: str, top: dict[str, float]) -> dict[str, Any]:
    """One token of an answer with the likeliest in its place, of which it is one or has probability 1."""
    entries = [{"token": each, "logprob": value} for each, value in top.items()]
    return {"token": token, "logprob": top.get(token, 0.0), "top_logprobs": entries}


def chat_places(*places: dict[str, Any]) -> Any:
    """Body of a chat completion with several places."""
    text = "".join(each["token"] for each in places)
    choice = {"message": {"content": text}, "finish_reason": "length", "logprobs": {"content": list(places)}}
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": len(places)}}


def answer(
    body: Any, status: int = 200, *, headers: dict[str, str] | None = None, wait: float = 0.0
) -> Answer:
    """One scripted answer."""
    return (status, body, headers or {}, wait)


def refused(words: str, param: str | None = None, status: int = 400) -> Answer:
    """A refusal in the form of OpenAI's."""
    return answer({"error": {"message": words, "param": param, "type": "invalid_request_error"}}, status)


def listing(payload: dict[str, Any]) -> Answer:
    """What a server without limits of its own answers to the tiny first request."""
    many = payload.get("top_logprobs", 0)
    tops = {"A": -0.1, **{f"w{at}": -6.0 - at for at in range(many - 1)}}
    return answer(chat("A", "length", tops if many else None))


class Limit:
    """A server's own limit: `burst` requests at once, then `per_s` a second; 429 with `after` beyond it."""

    def __init__(self, per_s: float, burst: float, after: str | None) -> None:
        self.per_s, self.burst = per_s, burst
        self._level, self._at = burst, time.monotonic()
        self.headers = {} if after is None else {"Retry-After": after}
        self.refusals = 0

    def __call__(self) -> bool:
        now = time.monotonic()
        self._level = min(self.burst, self._level + (now - self._at) * self.per_s)
        self._at = now
        if self._level >= 1:
            self._level -= 1
            return True
        self.refusals += 1
        return False


class MockServer:
    """`script` holds the answers to come, in order; after them every request gets `default`.

    The tiny first request of an engine is apart: it gets what `first` makes of it and stands in `firsts`.
    `limit` refuses what comes too fast. `log` is filled with this server's place for each request, where
    several servers share it.
    """

    def __init__(self, log: list[str] | None = None, port: int = 0) -> None:
        self.script: list[Answer] = []
        self.default: Answer = answer(chat())
        self.first: Callable[[dict[str, Any]], Answer] = listing
        self.firsts: list[dict[str, Any]] = []
        self.limit: Limit | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.models: Any = {"data": [{"id": "mock", "owned_by": "somebody"}]}
        self.models_status = 200
        # Bodies of POSTs to /collective_rpc; None for `control` answers 404, as a server without it does.
        self.calls: list[dict[str, Any]] = []
        self.control: Callable[[dict[str, Any]], Any] | None = None
        self.resets: list[bool] = []
        self.url = ""
        self.most_in_flight = self._in_flight = 0
        self._port = port
        self._log = log
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
            asyncio.run_coroutine_threadsafe(_end(runner), self._loop).result(60)
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
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        self._loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        ready()
        self._loop.run_forever()

    async def _models(self, request: web.Request) -> web.Response:
        return _response((self.models_status, self.models, {}, 0.0))

    async def _answer(self, request: web.Request) -> web.Response:
        payload = await request.json()
        if payload.get("messages") == [{"role": "user", "content": FIRST_WORDS}]:
            self.firsts.append(payload)
            return _response(self.first(payload))
        if self.limit is not None and not self.limit():
            return _response(answer({"error": {"message": "slow down"}}, 429, headers=self.limit.headers))
        self.requests.append(payload)
        self.headers.append(dict(request.headers))
        if self._log is not None:
            self._log.append(self.url)
        reply = self.script.pop(0) if self.script else self.default
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            await asyncio.sleep(reply[3])
        finally:
            self._in_flight -= 1
        return _response(reply)

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


async def _end(runner: web.AppRunner) -> None:
    """Close everything, and leave no answer waiting for its time."""
    await runner.cleanup()
    waiting = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def _response(reply: Answer) -> web.Response:
    status, body, headers, _ = reply
    if isinstance(body, bytes):
        return web.Response(body=body, status=status, headers=headers, content_type="application/json")
    if isinstance(body, str):
        return web.Response(text=body, status=status, headers=headers, content_type="text/html")
    return web.json_response(body, status=status, headers=headers)
