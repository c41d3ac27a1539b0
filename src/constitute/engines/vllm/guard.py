"""Runs inside `serve`'s vLLM: only this machine's own programs may ask, never a web page of another site."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# The --host that `serve` was given, for the child that listens there.
HOST_VARIABLE = "CONSTITUTE_SERVE_HOST"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class HostGuard:
    """ASGI middleware (`--middleware`) that refuses foreign hosts and origins on every path.

    vLLM asks for no password. A page can make the browser on this machine send requests here; its own
    address then stands in `Origin`, or in `Host` where its name was pointed here (DNS rebinding).
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._hosts = LOOPBACK | {os.environ.get(HOST_VARIABLE, "127.0.0.1").lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else ""
        if not refusal:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[:120]})
        else:
            body = json.dumps({"error": {"message": refusal, "type": "forbidden", "code": 403}}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> str:
        """Why the request is refused; empty where it is not."""
        sent = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in sent if name == b"host"]
        bound = str((scope.get("server") or ("",))[0]).lower()
        if len(hosts) != 1 or host_of(hosts[0]) not in self._hosts | {bound}:
            return (
                f"this server answers to {', '.join(sorted(self._hosts))} and not to the host "
                f"{', '.join(hosts)[:100]!r}; ask for it by one of those, or start `serve` with --host NAME"
            )
        origins = [value for name, value in sent if name == b"origin"]
        if any(urlsplit(origin).netloc.lower() != hosts[0].lower() for origin in origins):
            return f"this server answers no web page of another origin ({', '.join(origins)[:100]!r})"
        return ""


def host_of(header: str) -> str:
    """The host of a `Host` header, without its port; empty where it is none."""
    try:
        parts = urlsplit(f"//{header}")
        return "" if parts.path or parts.username else (parts.hostname or "").rstrip(".")
    except ValueError:
        return ""
