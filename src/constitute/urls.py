"""Which URLs of servers can be used: they are written into files and shown, so none may hold a key."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from constitute.errors import UsageError


def is_url(model: str) -> bool:
    """Whether `model` names a server rather than weights."""
    return model.startswith(("http://", "https://"))


def usable(url: str) -> SplitResult:
    """The parts of a server's URL. Raises `UsageError` for one that is broken or holds what may be a key."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise UsageError(f"{url!r} holds a space or a control character; give a URL without them")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as problem:
        raise UsageError(f"{url} is not a URL ({problem}); give one like http://127.0.0.1:8000") from problem
    if parts.username or parts.password:
        raise UsageError(
            "the URL holds a password; put the key into the variable named by engine.api_key_env"
        )
    # Neither is shown: what stands there is mostly a key.
    if parts.query or parts.fragment:
        raise UsageError(
            f"the URL of {parts.hostname} goes on after {'?' if parts.query else '#'}, which is not sent; "
            "leave that out and put a key into the variable named by engine.api_key_env"
        )
    if not parts.hostname:
        raise UsageError(f"{url} names no host; give a URL like http://127.0.0.1:8000")
    return parts
