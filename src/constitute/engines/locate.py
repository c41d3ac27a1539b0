"""Check quickly whether a model's files are there and whole, before a library spends minutes on them."""

from __future__ import annotations

import json
import os
import socket
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from constitute.errors import UsageError
from constitute.packaged import SMOLLM
from constitute.strict_yaml import shorten

# The names of models that come with constitute, or by its `fetch`.
PACKAGED = ("pocket", SMOLLM)
_CONNECT_S = 5.0
_LFS_POINTER = b"version https://git-lfs"
# The safetensors format allows headers of this many bytes.
_HEADER_CAP = 100_000_000


def require(path: str) -> None:
    """Raise `UsageError` unless `path` is a model folder, in the Hub's cache, or the Hub can be reached.

    The files of a folder are examined: a Git-LFS pointer or half a file is no model, nor is one whose
    weights lie elsewhere or are no safetensors. Of the Hub's cache, the lists of weights are.
    """
    if Path(path).is_dir():
        _require_whole(Path(path))
        _require_own_weights(Path(path))
        return
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise UsageError(f"no such model: {path!r} is not a folder; check the path")
    cached = _cached(path)
    near = get_close_matches(path.lower(), PACKAGED, n=1, cutoff=0.8)
    if near and not cached:
        raise UsageError(f"no such model: {path!r}; did you mean {near[0]!r}?")
    if cached:
        _require_own_weights(Path(cached).parent)
    if cached or _reachable():
        return
    raise UsageError(
        f"no such model: {path!r} is neither a folder nor packaged nor in the Hub's cache, and the Hub "
        f"cannot be reached; give a folder, {SMOLLM!r}, or the URL of a server"
    )


def _require_whole(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        if (folder / "checkpoints").is_dir():
            raise UsageError(
                f"the training in {folder} is not finished (checkpoints, no model); start the same command "
                "again to finish it, or give another model"
            )
        raise UsageError(f"{folder} holds no config.json; give the folder that save_pretrained wrote")
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.model"), *folder.glob("*.safetensors")]):
        with file.open("rb") as content:
            start = content.read(len(_LFS_POINTER))
            if start == _LFS_POINTER:
                raise UsageError(f"{file} is a Git-LFS pointer, not the file; run `git lfs pull` in {folder}")
            if file.suffix == ".safetensors":
                content.seek(8)
                _require_tensors(file, content.read(min(int.from_bytes(start[:8], "little"), _HEADER_CAP)))


def _require_own_weights(folder: Path) -> None:
    """Raise `UsageError` where a file of the folder names weights that are no safetensors in it.

    transformers reads whatever file an index names, pickles too, and for an adapter another model.
    """
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder} holds an adapter (adapter_config.json), whose weights go on top of another model's; "
            "merge it into that model (PEFT's merge_and_unload, then save_pretrained) and give that folder"
        )
    named = [(path, _values(path, "weight_map")) for path in sorted(folder.glob("*safetensors*.json"))]
    own = _values(folder / "config.json", "transformers_weights")
    for path, names in [*named, (folder / "config.json", own)]:
        for name in names:
            plain = isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name
            if not plain:
                raise UsageError(
                    f"{path} names weights in {shorten(repr(name))}; a model's weights must be *.safetensors "
                    "files in its own folder: save it anew with save_pretrained"
                )


def _values(path: Path, key: str) -> list[Any]:
    """The values of an object, or the single value, under a key of a JSON file; none where there is none.

    What is no JSON is left to the loaders, which refuse it.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    value = found.get(key) if isinstance(found, dict) else None
    if value is None:
        return []
    return list(value.values()) if isinstance(value, dict) else [value]


def _require_tensors(file: Path, header: bytes) -> None:
    """Raise `UsageError` unless the file is as long as its JSON `header` says."""
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        whole = 8 + len(header) + max(ends, default=0) <= file.stat().st_size
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        whole = False
    if not whole:
        raise UsageError(f"{file} is broken or only half there; fetch or save it again")


def reason_of(problem: BaseException) -> str:
    """What a library's error says is wrong, as one line of at most 400 characters.

    Of several lines the first counts; pydantic's messages come without the links and inputs around them.
    """
    if isinstance(problem, ValidationError):
        places = [": ".join([*map(str, error["loc"]), error["msg"]]) for error in problem.errors()]
        words = "; ".join(place.removeprefix("Value error, ") for place in places)
    else:
        words = next((line for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
    return " ".join(words.split())[:400]


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
