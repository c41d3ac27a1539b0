"""A deterministic engine without a model: answers are derived from SHA-256 of what was asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from constitute.engines.base import Ability, ModelIdentity, check_length
from constitute.errors import EngineError, RowError
from constitute.types import Choice, Completion, FinishReason, Request, Score

if TYPE_CHECKING:
    from constitute.config import EngineConfig

_TEXT = (
    "the reply is kind plain honest careful short and clear it helps with what was asked first think "
    "then act ask a friend read more try again take your time keep notes be safe stay calm"
)
WORDS = _TEXT.split()


@dataclass(frozen=True)
class Script:
    """Scripted failures: of rows whose prompt holds `fail_on`, of the whole engine, and slowness.

    `die_after` answers the engine raises `EngineError` for ever; `delay_s` is slept before each answer.
    """

    fail_on: str = ""
    die_after: int | None = None
    delay_s: float = 0.0


class FakeEngine:
    """Implements `Engine`. One word is one token; token ids are places in `WORDS`."""

    def __init__(self, model: str, config: EngineConfig, script: Script = Script()) -> None:
        self._config = config
        self._script = script
        self._name = model
        self.answered = 0

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity(engine="fake", name=self._name, fingerprint="sha256-1")

    @property
    def context_length(self) -> int | None:
        return self._config.context_length

    def prompt_ids(self, request: Request) -> tuple[int, ...] | None:
        """None: the words of a prompt are not in the vocabulary."""
        return None

    def rendered(self, request: Request) -> bytes:
        """The messages, the prefill and any form but chat as canonical JSON."""
        asked = [[message.role, message.content] for message in request.messages]
        form = [] if request.form == "chat" else [request.form]
        return json.dumps([asked, request.prefill, *form], ensure_ascii=True, separators=(",", ":")).encode()

    async def generate(self, request: Request) -> Completion:
        """Between 4 words and `max_tokens` words, fixed by the request, its sampling and its seed."""
        prompt_tokens = await self._begin(request)
        # Stop strings and max_tokens only cut an answer, as they do with a model.
        drawn = request.sampling.model_copy(update={"stop": (), "max_tokens": 1})
        if drawn.temperature == 0.0:
            drawn = drawn.model_copy(update={"seed": None})
        digest = hashlib.sha256(self.rendered(request) + drawn.model_dump_json().encode()).digest()
        room = request.sampling.max_tokens
        if self.context_length is not None:
            room = min(room, self.context_length - prompt_tokens)
        length = 4 + digest[0] % 24
        ids = tuple(_stream(digest, min(length, room)))
        text = " ".join(WORDS[index] for index in ids)
        places = [text.index(word) for word in request.sampling.stop if word in text]
        finish: FinishReason = "stop" if places or length < room else "length"
        self.answered += 1
        return Completion(
            text=text[: min(places)] if places else text,
            token_ids=ids,
            finish_reason=finish,
            prompt_tokens=prompt_tokens,
        )

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        """Log-probabilities that share 0.9 of the mass; a label's weight depends on the whole prompt.

        A label has no other spellings here.
        """
        await self._begin(request)
        weights = []
        for label in labels:
            if not label:
                raise ValueError("a label must not be empty")
            digest = hashlib.sha256(self.rendered(request) + b"\0" + label.encode()).digest()
            weights.append(1 + int.from_bytes(digest[:2], "big"))
        self.answered += 1
        return Choice(
            labels=tuple(labels),
            logprobs=tuple(math.log(0.9 * weight / sum(weights)) for weight in weights),
        )

    async def score(self, request: Request, text: str) -> Score:
        """A log-probability between -4 and 0 for each word, fixed by the prompt and the words up to it."""
        prompt_tokens = await self._begin(request)
        words = text.split()
        check_length(prompt_tokens + len(words) - 1, self.context_length)
        seed = hashlib.sha256(self.rendered(request))
        scores = []
        for word in words:
            seed.update(b"\0" + word.encode())
            scores.append(-4.0 * int.from_bytes(seed.digest()[:2], "big") / 65535)
        self.answered += 1
        return Score(token_ids=tuple(range(len(words))), logprobs=tuple(scores))

    @property
    def lacks(self) -> Mapping[Ability, str]:
        """Nothing."""
        return {}

    async def close(self) -> None:
        """Nothing is held."""

    async def _begin(self, request: Request) -> int:
        """Follow the script, then check the length; returns the number of prompt tokens."""
        await asyncio.sleep(self._script.delay_s)
        if self._script.die_after is not None and self.answered >= self._script.die_after:
            raise EngineError(f"the fake engine died after {self.answered} answers, as scripted")
        text = "\n".join([*(message.content for message in request.messages), request.prefill])
        if self._script.fail_on and self._script.fail_on in text:
            raise RowError(f"the prompt holds {self._script.fail_on!r}, as scripted")
        tokens = len(text.split())
        check_length(tokens, self.context_length)
        return tokens


def _stream(digest: bytes, length: int) -> list[int]:
    """`length` word numbers drawn from repeated hashing."""
    numbers: list[int] = []
    while len(numbers) < length:
        digest = hashlib.sha256(digest).digest()
        numbers.extend(byte % len(WORDS) for byte in digest)
    return numbers[:length]
