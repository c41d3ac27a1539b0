"""A deterministic model for tests of stages, driver and store: its answers follow from the question's hash.

It misbehaves where the conversation says so: a prompt holding `[too long]`, `[cut]`, `[empty]` or
`[dead]` fails, is truncated, is answered with nothing, or kills the engine; `[unscored]` and `[no mass]`
spoil labels.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from constitute.engines.base import Ability, ModelIdentity
from constitute.errors import EngineError, PromptTooLong
from constitute.types import Choice, Completion, Constitution, Message, Principle, Prompt, Request

WORDS = [
    "mend",
    "the",
    "kettle",
    "with",
    "care",
    "and",
    "ask",
    "a",
    "neighbour",
    "before",
    "the",
    "rain",
    "comes",
    "over",
    "the",
    "old",
    "stone",
    "bridge",
]


def principle(name: str, weight: float = 1.0) -> Principle:
    """A principle whose forms all hold its name."""
    return Principle(
        id=name,
        text=f"Be {name}.",
        critique=f"Is it {name}?",
        revise=f"Make it {name}.",
        compare=f"Which is more {name}?",
        weight=weight,
    )


def constitution(*names: str) -> Constitution:
    return Constitution(
        name="test", principles=tuple(principle(name) for name in names or ("kind", "brief", "safe"))
    )


def prompt(name: str, text: str = "") -> Prompt:
    return Prompt(id=name, messages=(Message(role="user", content=text or f"Tell me about {name}."),))


def question_id(request: Request, labels: Sequence[str] = ()) -> str:
    """Hash of everything a question says; the same for a request read back from the store."""
    text = json.dumps([request.model_dump(mode="json"), list(labels)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class ScriptedEngine:
    """Answers at once, or after up to `delay_s`; logs each question to `log` before it answers."""

    context_length = 4096
    lacks: Mapping[Ability, str] = {}

    def __init__(self, name: str = "scripted", log: Path | None = None, delay_s: float = 0.0) -> None:
        self.identity = ModelIdentity(engine="scripted", name=name)
        self.asked: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.closed = False
        self.lacks: dict[str, str] = {}
        self._delay_s = delay_s
        self._log = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def prompt_ids(self, request: Request) -> None:
        """It has no tokens."""

    def rendered(self, request: Request) -> bytes:
        return json.dumps([[m.role, m.content] for m in request.messages]).encode()

    async def generate(self, request: Request) -> Completion:
        digest = await self._wait(request, ())
        text = " ".join(m.content for m in request.messages)
        if "[cut]" in text:
            return Completion(text="cut off in the", token_ids=(5, 6, 7), finish_reason="length")
        if "[empty]" in text:
            return Completion(text="  ", token_ids=(2,))
        words = [WORDS[byte % len(WORDS)] for byte in digest[: 3 + digest[0] % 6]]
        return Completion(text=" ".join(words), token_ids=tuple(digest[:8]))

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        digest = await self._wait(request, labels)
        share = 0.05 + 0.9 * digest[0] / 255
        logprobs: tuple[float | None, ...] = (math.log(0.9 * share), math.log(0.9 * (1 - share)))
        if "[unscored]" in request.messages[-1].content:
            logprobs = (logprobs[0], None)
        if "[no mass]" in request.messages[-1].content:
            logprobs = (-20.0, -21.0)
        return Choice(labels=tuple(labels), logprobs=logprobs)

    async def close(self) -> None:
        self.closed = True

    async def _wait(self, request: Request, labels: Sequence[str]) -> bytes:
        text = " ".join(m.content for m in request.messages)
        if "[dead]" in text:
            raise EngineError("the engine is gone (connection refused)")
        if "[too long]" in text:
            raise PromptTooLong("the prompt has 5000 tokens, the limit is 4096")
        name = question_id(request, labels)
        self.asked[name] += 1
        if self._log is not None:
            os.write(self._log, f"{name}\n".encode())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        digest = hashlib.sha256(f"{self.identity.name}{name}".encode()).digest()
        await asyncio.sleep(self._delay_s * digest[1] / 255)
        self.in_flight -= 1
        return digest
