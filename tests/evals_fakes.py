"""A model made of two functions, for tests of the evals."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from constitute.engines.base import ModelIdentity
from constitute.types import Choice, Completion, Principle, Request


class FakeSample:
    """Implements `constitute.stages.base.Sample` and keeps what it was asked."""

    def __init__(
        self,
        say: Callable[[Request, str], str | Completion] = lambda request, step: "",
        rate: Callable[[Request, str, str], float | None] = lambda request, step, label: 0.0,
    ) -> None:
        self.say, self.rate = say, rate
        self.asked: list[tuple[str, Request, Principle | None]] = []

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        self.asked.append((step, request, principle))
        answer = self.say(request, step)
        return answer if isinstance(answer, Completion) else Completion(text=answer)

    async def choose(
        self,
        request: Request,
        labels: Sequence[str],
        *,
        step: str,
        principle: Principle | None = None,
        spelled: bool = False,
    ) -> Choice:
        """Each label's probability from `rate`; None leaves it unscored."""
        self.asked.append((step, request, principle))
        rated = (self.rate(request, step, label) for label in labels)
        logprobs = tuple(None if p is None else math.log(p) if p > 0 else -math.inf for p in rated)
        return Choice(labels=tuple(labels), logprobs=logprobs)


class FakeEngine:
    """A `FakeSample` behind the protocol of engines, for the real driver; it cannot see steps."""

    context_length = None
    lacks: ClassVar[dict[str, str]] = {}

    def __init__(self, sample: FakeSample, name: str = "fake") -> None:
        self.sample = sample
        self.identity = ModelIdentity(engine="fake", name=name)

    def rendered(self, request: Request) -> bytes:
        return request.model_dump_json().encode()

    async def generate(self, request: Request) -> Completion:
        return await self.sample.generate(request, step="")

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        return await self.sample.choose(request, labels, step="")

    async def close(self) -> None: ...
