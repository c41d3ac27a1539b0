"""What an answer depends on: its cache key, and the seed it is drawn with."""

from __future__ import annotations

import hashlib
import json

from constitute.engines.base import ModelIdentity
from constitute.types import Record, SamplingParams

KEY_VERSION = 2


class Question(Record):
    """Everything an answer depends on; its hash is the cache key (one field, one mutation test)."""

    key_version: int = KEY_VERSION
    stage: str
    stage_version: int = 1
    prompt_sha256: str
    model: ModelIdentity
    sampling: SamplingParams
    step: str
    index: int
    principle_id: str = ""
    principle_sha256: str = ""
    labels: tuple[str, ...] = ()
    spelled: bool = False
    text_sha256: str = ""
    thinking: int = 0

    def key(self) -> str:
        """SHA-256 over canonical JSON: sorted keys, no spaces, ASCII."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**31) from the parts: the same in every process and on every server."""
    text = json.dumps([str(part) for part in parts], ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
