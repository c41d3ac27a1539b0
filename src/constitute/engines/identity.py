"""Fingerprints of what answers: model folders, tokenizers, templates and weights pushed at run time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WHOLE_FILE_LIMIT = 100 * 1024 * 1024
_SAMPLE_BLOCKS = 64
_SAMPLE_BYTES = 65_536
# Files that change what a model answers; README, logs, optimizer states and records of training do not.
_PATTERNS = ("*.json", "*.jinja", "*.safetensors", "*.model", "*.txt", "*.tiktoken")
_RECORDS = frozenset({"training.json", "watch.json"})


def short_hash(data: bytes) -> str:
    """First 16 hex digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file; of its size, header and 64 blocks spread over it once it exceeds 100 MiB.

    A training step moves every weight, so spread blocks tell two checkpoints of one shape apart.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= WHOLE_FILE_LIMIT:
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
        for index in range(_SAMPLE_BLOCKS):
            file.seek(index * (size - _SAMPLE_BYTES) // (_SAMPLE_BLOCKS - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def folder_fingerprint(folder: Path) -> str:
    """16 hex digits over the names and contents of the files of a local model folder."""
    found = {path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file()}
    paths = sorted(path for path in found if path.name not in _RECORDS)
    listing = [(path.name, file_digest(path)) for path in paths]
    return short_hash(json.dumps(listing).encode())


def model_fingerprint(path: str) -> str:
    """Fingerprint of `path` where it is a local folder, else the empty string."""
    return folder_fingerprint(Path(path)) if Path(path).is_dir() else ""


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
