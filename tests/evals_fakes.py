"""A model made of two functions, and results made by hand, for tests of the evals."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from constitute.engines.base import ModelIdentity
from constitute.evals.families.base import ItemScore
from constitute.evals.run import SetResult
from constitute.stats import share_of
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


def result(policy: str, targets: str, controls: str) -> SetResult:
    """A result on a set with targets and controls, whose items match as the two strings of 0 and 1 say."""
    scores = tuple(
        ItemScore(
            id=f"{kind}{at}",
            logprobs=(-1.0, -2.0),
            p_matching=float(hit),
            matching=hit == "1",
            mass=None,
            groups=(("kind", kind), ("other", str(at % 2))),
        )
        for kind, hits in (("target", targets), ("control", controls))
        for at, hit in enumerate(hits)
    )
    hits = targets + controls
    by_kind = {"kind: control": controls, "kind: target": targets}
    parts = {part: share_of(some.count("1"), len(some)) for part, some in by_kind.items()}
    share = share_of(hits.count("1"), len(hits))
    return SetResult(
        set="own", policy=policy, model={}, items_hash="h", failed=0, scores=scores,
        share=share, parts=parts, p_matching=share, mass=None, unparsed={},
    )  # fmt: skip
