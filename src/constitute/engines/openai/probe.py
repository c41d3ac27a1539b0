"""Ask a server once, before the run, who it is and what it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from constitute.engines.openai.reach import Access, Reply, ask, base_url
from constitute.engines.openai.wire_in import message_of
from constitute.errors import EngineError, UsageError
from constitute.text import harmless

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Server:
    """What a server said about itself. `context` in tokens, `root` the weights' path or Hub name."""

    base: str
    model: str
    served: tuple[str, ...]
    is_vllm: bool
    context: int | None
    root: str


def probe(url: str, access: Access, served_name: str | None, timeout: float = _TIMEOUT_S) -> Server:
    """What the server at `url` serves.

    Raises `EngineError` where no usable server answers, `UsageError` for a model name it does not serve.
    """
    base = base_url(url)
    try:
        reply = ask(f"{base}/v1/models", access, timeout)
    except OSError as problem:
        reason = harmless(str(getattr(problem, "reason", problem)))
        raise EngineError(
            f"no server answers at {base} ({reason}); start one with `constitute serve` or check the URL"
        ) from problem
    server = read_models(base, reply, access, served_name)
    return replace(server, is_vllm=server.is_vllm and _says_version(base, access, timeout))


def read_models(base: str, reply: Reply, access: Access, served_name: str | None) -> Server:
    """The server by its list of models; `is_vllm` is what it says there. Raises as `probe` does."""
    if reply.status in (401, 403):
        raise EngineError(f"{base} refuses access ({reply.status}): put a valid key into ${access.key_env}")
    listed = reply.body.get("data") if isinstance(reply.body, dict) else None
    if reply.status != 200 or not isinstance(listed, list):
        said = message_of(reply.body)[:80] if reply.status != 200 else ""
        raise EngineError(
            f"{base}/v1/models answers {reply.status} without a list of models{said and f' ({said})'}; "
            "is it an OpenAI-compatible server?"
        )
    entries = [entry for entry in listed if isinstance(entry, dict) and _is_name(entry.get("id"))]
    entry = _pick(base, entries, served_name)
    limit, root = entry.get("max_model_len"), entry.get("root")
    return Server(
        base=base,
        model=entry["id"],
        served=tuple(each["id"] for each in entries),
        is_vllm=entry.get("owned_by") == "vllm",
        context=limit if type(limit) is int and limit > 0 else None,
        root=str(root) if _is_name(root) else "",
    )


def check_same(first: Server, other: Server) -> None:
    """Raise `UsageError` unless two endpoints serve the same model in the same way."""
    for what, here, there in (
        ("model", first.model, other.model),
        ("max_model_len", first.context, other.context),
        ("root", first.root, other.root),
        ("vLLM", first.is_vllm, other.is_vllm),
    ):
        if here != there:
            raise UsageError(
                f"engine.endpoints: {other.base} serves another model than {first.base} ({what}: {there!r}, "
                f"not {here!r}); name servers of one model, started alike"
            )


def _says_version(base: str, access: Access, timeout: float) -> bool:
    try:
        return ask(f"{base}/version", access, timeout).status == 200
    except OSError:
        return False


def _is_name(value: Any) -> TypeGuard[str]:
    """A text that is no larger than a name is, and whole characters."""
    return isinstance(value, str) and 0 < len(value) <= 4096 and harmless(value) == value


def _pick(base: str, entries: Sequence[dict[str, Any]], served_name: str | None) -> dict[str, Any]:
    names = [entry["id"] for entry in entries]
    listed = ", ".join(names[:20]) or "none"
    if served_name is not None:
        for entry in entries:
            if entry["id"] == served_name:
                return entry
        raise UsageError(f"{base} does not serve {served_name!r}; served: {listed}")
    if not entries:
        raise EngineError(f"{base}/v1/models names no model; is it an OpenAI-compatible server?")
    if len(entries) != 1:
        raise UsageError(f"{base} serves {len(entries)} models; set engine.served_name to one of: {listed}")
    return entries[0]
