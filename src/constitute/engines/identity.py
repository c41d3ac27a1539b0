"""Fingerprints of what answers: model folders, tokenizers, templates and weights pushed at run time."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitute.engines.base import ModelIdentity
from constitute.engines.locate import snapshot

if TYPE_CHECKING:
    from constitute.engines.render import Renderer

# Bytes that one thread hashes at a time; hashlib lets others run meanwhile.
CHUNK = 64 * 1024 * 1024
_SAMPLE_BYTES = 65_536
# Clocks of file systems tick up to this coarsely, so a file this young may change and keep its times.
_SETTLED_NS = 2_000_000_000
# Files that change what a model answers; README, logs, optimizer states and records of training do not.
_PATTERNS = ("*.json", "*.jinja", "*.safetensors", "*.model", "*.txt", "*.tiktoken")
_RECORDS = frozenset({"training.json", "watch.json"})


def short_hash(data: bytes) -> str:
    """First 16 hex digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's size and content; of several chunks, of their digests.

    Every byte counts. What has not changed since this process read it is not read again.
    """
    stat = path.stat()
    seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if seen in _digests:
        return _digests[seen]
    digest = hashlib.sha256(str(stat.st_size).encode())
    if stat.st_size <= CHUNK:
        digest.update(path.read_bytes())
    else:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for part in pool.map(partial(_chunk, path), range(0, stat.st_size, CHUNK)):
                digest.update(part)
    found = digest.hexdigest()
    after = path.stat()
    unchanged = seen == (after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns)
    if unchanged and time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS:
        _digests[seen] = found
    return found


# By device, inode, size, time of the last change to content and to anything: no program sets the last one.
_digests: dict[tuple[int, ...], str] = {}


def _chunk(path: Path, start: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        left = CHUNK
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.digest()


def folder_fingerprint(folder: Path) -> str:
    """16 hex digits over the names and contents of the files of a local model folder."""
    found = {path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file()}
    paths = sorted(path for path in found if path.name not in _RECORDS)
    listing = [(path.name, file_digest(path)) for path in paths]
    return short_hash(json.dumps(listing).encode())


def model_fingerprint(path: str) -> str:
    """Fingerprint of `path` where it is a local folder, else the empty string."""
    return folder_fingerprint(Path(path)) if Path(path).is_dir() else ""


def local_identity(
    engine: str, model: str, path: str, revision: str | None, renderer: Renderer
) -> ModelIdentity:
    """Who answers where `engine` opens the model at `path`, which people call `model`."""
    return ModelIdentity(
        engine=engine,
        name=model,
        revision=revision or "",
        fingerprint=model_fingerprint(path) or snapshot(path, revision),
        tokenizer_hash=renderer.tokenizer_hash,
        template_hash=renderer.template_hash,
    )


def weights_fingerprint(named_bytes: Iterable[tuple[str, bytes]]) -> str:
    """16 hex digits over names and (sampled) bytes of tensors that replaced a model's weights."""
    digest = hashlib.sha256()
    for name, data in named_bytes:
        digest.update(f"{name}:{len(data)}:".encode())
        digest.update(data)
    return "weights-" + digest.hexdigest()[:16]


def tensor_bytes(tensor: Any) -> bytes:
    """At most 65,536 elements spread over a torch tensor, as the bytes of fp32."""
    flat = tensor.detach().reshape(-1)
    stride = max(1, flat.numel() // _SAMPLE_BYTES)
    return bytes(flat[::stride].float().cpu().numpy().tobytes())
