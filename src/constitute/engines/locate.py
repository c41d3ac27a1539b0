"""Find out quickly whether a model's files can be had, before a library spends a minute on retries."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from constitute.errors import UsageError

_CONNECT_S = 5.0


def require(path: str) -> None:
    """Raise `UsageError` unless `path` is a model folder, in the Hub's cache, or the Hub can be reached."""
    if Path(path).is_dir():
        if not (Path(path) / "config.json").is_file():
            raise UsageError(f"{path} holds no config.json; give the folder that save_pretrained wrote")
        return
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise UsageError(f"no such model: {path!r} is not a folder; check the path")
    if _cached(path) or _reachable():
        return
    raise UsageError(
        f"no such model: {path!r} is neither a folder nor packaged nor in the Hub's cache, and the Hub "
        "cannot be reached; give a folder, 'pocket', or the URL of a server"
    )


def snapshot(name: str, revision: str | None = None) -> str:
    """Commit of a Hub model that was loaded, for its identity; empty where the cache does not say."""
    place = _cached(name, revision)
    return f"commit-{Path(place).parent.name[:16]}" if place else ""


def _cached(name: str, revision: str | None = None) -> str | None:
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        place = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        raise UsageError(f"no such model: {name!r} is neither a folder nor a valid Hub name") from None
    return place if isinstance(place, str) else None


def _reachable() -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return False
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    parts = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=_CONNECT_S):
            return True
    except OSError:
        return False
