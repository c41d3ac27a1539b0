"""How to reach a server: its base URL, the proxy to it, and one plain request without an event loop."""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from constitute.engines.openai.limits import retry_after
from constitute.engines.openai.wire_in import parsed
from constitute.errors import UsageError
from constitute.urls import usable

_CAP = 4 << 20
# A shorter key may be an ordinary word, such as EMPTY.
_SHORTEST_SECRET = 8


@dataclass(frozen=True)
class Access:
    """The key to a server and where it came from; the key is never shown."""

    key: str = field(default="", repr=False)
    key_env: str = ""

    def headers(self) -> dict[str, str]:
        """The headers that show the key."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def hide(self, data: bytes) -> bytes:
        """A body without the key, which some servers send back."""
        secret = len(self.key) >= _SHORTEST_SECRET
        return data.replace(self.key.encode(), b"***") if secret else data


@dataclass(frozen=True)
class Reply:
    """A server's answer: its status, the JSON body or its text, and the seconds it asks to wait."""

    status: int
    body: Any
    after: float | None = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def base_url(url: str) -> str:
    """`url` without a trailing slash or /v1. Raises `UsageError` for one that cannot be used."""
    parts = usable(url)
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for `url` (HTTP_PROXY, HTTPS_PROXY, NO_PROXY); None for none.

    This machine itself is always reached directly. Raises `UsageError` for a proxy that is not HTTP.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    scheme = urlsplit(proxy if "://" in proxy else f"http://{proxy}").scheme
    if scheme not in ("http", "https"):
        raise UsageError(
            f"the environment names a {scheme} proxy for {host}, which is not supported; set "
            f"{parts.scheme.upper()}_PROXY to an HTTP proxy, or put {host} into NO_PROXY"
        )
    return proxy if "://" in proxy else f"http://{proxy}"


def ask(url: str, access: Access, timeout: float, payload: Mapping[str, Any] | None = None) -> Reply:
    """The answer to a GET, or to a POST of `payload`; redirects are not followed.

    Raises `OSError` where nothing answers, or not in HTTP.
    """
    proxy = proxy_for(url)
    scheme = urlsplit(url).scheme
    opener = urllib.request.build_opener(
        _NoRedirect, urllib.request.ProxyHandler({scheme: proxy} if proxy else {})
    )
    headers = access.headers() | ({} if payload is None else {"Content-Type": "application/json"})
    data = None if payload is None else json.dumps(payload).encode()
    try:
        try:
            with opener.open(urllib.request.Request(url, data, headers), timeout=timeout) as answer:
                status, got, said = answer.status, answer.read(_CAP), answer.headers
        except urllib.error.HTTPError as problem:
            with problem:
                status, got, said = problem.code, problem.read(_CAP), problem.headers
    except http.client.HTTPException as problem:
        raise OSError(f"an answer that is not HTTP ({type(problem).__name__})") from problem
    after = retry_after({name.lower(): value for name, value in said.items()}, time.time())
    return Reply(status, parsed(access.hide(got)), after)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
