"""Ask a server once, before the run, who it is and what it serves."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from constitute.errors import EngineError, UsageError

_CAP = 4 << 20


@dataclass(frozen=True)
class Server:
    """What a server said about itself. `context` in tokens, `root` the weights' path or Hub name."""

    base: str
    model: str
    served: tuple[str, ...]
    is_vllm: bool
    context: int | None
    root: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def base_url(url: str) -> str:
    """`url` without a trailing slash or /v1. Raises `UsageError` for one that cannot be used."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise UsageError(f"{url!r} holds a space or a control character; give a URL without them")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as problem:
        raise UsageError(f"{url} is not a URL ({problem}); give one like http://127.0.0.1:8000") from problem
    if not parts.hostname:
        raise UsageError(f"{url} names no host; give a URL like http://127.0.0.1:8000")
    if parts.username or parts.password:
        raise UsageError(
            "the URL holds a password; put the key into the variable named by engine.api_key_env"
        )
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def get_json(url: str, key: str, timeout: float) -> tuple[int, Any]:
    """(status, parsed body) of a GET without redirects or proxies; body None where it is no JSON.

    Raises `OSError` where nothing answers.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
            status, data = answer.status, answer.read(_CAP)
    except urllib.error.HTTPError as problem:
        status, data = problem.code, problem.read(_CAP)
    try:
        return status, json.loads(data)
    except ValueError:
        return status, None


def probe(url: str, *, key: str, key_env: str, served_name: str | None, timeout: float = 10.0) -> Server:
    """What the server at `url` serves.

    Raises `EngineError` where no usable server answers, `UsageError` for a model name it does not serve.
    """
    base = base_url(url)
    try:
        status, body = get_json(f"{base}/v1/models", key, timeout)
    except OSError as problem:
        reason = getattr(problem, "reason", problem)
        raise EngineError(
            f"no server answers at {base} ({reason}); start one with `constitute serve` or check the URL"
        ) from problem
    if status in (401, 403):
        raise EngineError(f"{base} refuses access ({status}): put a valid key into ${key_env}")
    entries = body.get("data") if isinstance(body, dict) else None
    if status != 200 or not isinstance(entries, list):
        raise EngineError(
            f"{base}/v1/models answers {status} without a list of models; is it an OpenAI-compatible server?"
        )
    entry = _pick(base, [e for e in entries if isinstance(e, dict) and "id" in e], served_name)
    is_vllm = entry.get("owned_by") == "vllm" and get_json(f"{base}/version", key, timeout)[0] == 200
    limit = entry.get("max_model_len")
    return Server(
        base=base,
        model=str(entry["id"]),
        served=tuple(str(e["id"]) for e in entries),
        is_vllm=is_vllm,
        context=int(limit) if isinstance(limit, int) else None,
        root=str(entry.get("root") or ""),
    )


def _pick(base: str, entries: list[dict[str, Any]], served_name: str | None) -> dict[str, Any]:
    names = [str(entry["id"]) for entry in entries]
    listed = ", ".join(names[:20]) or "none"
    if served_name is not None:
        for entry in entries:
            if entry["id"] == served_name:
                return entry
        raise UsageError(f"{base} does not serve {served_name!r}; served: {listed}")
    if len(entries) != 1:
        raise UsageError(f"{base} serves {len(entries)} models; set engine.served_name to one of: {listed}")
    return entries[0]
