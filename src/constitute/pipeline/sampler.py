"""Ask a model for one row: seeds, the cache key, the journal, and each question asked once.

Every answer is committed to the store before it is returned. An error, a truncation or a label the
server did not score is kept as an attempt and never as an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from constitute.engines.base import Engine, ModelIdentity
from constitute.errors import RowError
from constitute.progress import Progress
from constitute.store import Store
from constitute.types import Choice, Completion, Principle, Record, Request, SamplingParams

KEY_VERSION = 1
# The version of each stage's code: raise it when the same request would be put together another way.
STAGE_VERSIONS = {"generate": 1, "revise": 1, "label": 1}


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

    def key(self) -> str:
        """SHA-256 over canonical JSON: sorted keys, no spaces, ASCII."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**31) from the parts: the same in every process and on every server."""
    text = json.dumps([str(part) for part in parts], ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@dataclass
class Desk:
    """What all samplers of one stage share: the engine, the store and the questions in flight."""

    stage: str
    engine: Engine
    store: Store
    seed: int
    progress: Progress
    keep_truncated: bool = False
    asked: int = 0
    reused: int = 0
    in_flight: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)


class Sampler:
    """The `Sample` of one row; see `constitute.stages.base`."""

    def __init__(self, desk: Desk, row_id: str) -> None:
        self._desk = desk
        self._row_id = row_id

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        """One completion, seeded from (run seed, stage, row id, step, index).

        Raises `RowError` for a completion cut at `max_tokens`, unless the stage keeps those.
        """
        desk = self._desk
        seed = derive_seed(desk.seed, desk.stage, self._row_id, step, index)
        request = request.model_copy(update={"sampling": request.sampling.model_copy(update={"seed": seed})})
        question = self._question(request, step=step, index=index, principle=principle, labels=())

        cut = f"{step} was cut at {request.sampling.max_tokens} tokens"

        async def ask() -> tuple[dict[str, Any], str]:
            completion = await desk.engine.generate(request)
            desk.progress.tokens(len(completion.token_ids))
            return completion.model_dump(mode="json"), cut if refused(completion) else ""

        def refused(completion: Completion) -> bool:
            return completion.finish_reason == "length" and not desk.keep_truncated

        completion = Completion.model_validate(await self._answer(question, request, ask))
        if refused(completion):
            raise RowError(cut)
        return completion

    async def choose(
        self, request: Request, labels: Sequence[str], *, step: str, principle: Principle | None = None
    ) -> Choice:
        """Log-probabilities of the labels, None for one the server did not score.

        The same question of two rows is asked once.
        """
        desk = self._desk
        question = self._question(request, step=step, index=0, principle=principle, labels=tuple(labels))

        async def ask() -> tuple[dict[str, Any], str]:
            choice = await desk.engine.choose(request, labels)
            missing = [label for label, value in zip(labels, choice.logprobs, strict=True) if value is None]
            reason = f"{step}: the server did not score {', '.join(missing)}" if missing else ""
            return choice.model_dump(mode="json"), reason

        return Choice.model_validate(await self._answer(question, request, ask))

    def _question(
        self, request: Request, *, step: str, index: int, principle: Principle | None, labels: tuple[str, ...]
    ) -> Question:
        desk = self._desk
        return Question(
            stage=desk.stage,
            stage_version=STAGE_VERSIONS.get(desk.stage, 1),
            prompt_sha256=hashlib.sha256(desk.engine.rendered(request)).hexdigest(),
            model=desk.engine.identity,
            sampling=request.sampling,
            step=step,
            index=index,
            principle_id=principle.id if principle else "",
            principle_sha256=hashlib.sha256(principle.text.encode()).hexdigest() if principle else "",
            labels=labels,
        )

    async def _answer(
        self, question: Question, request: Request, ask: Callable[[], Awaitable[tuple[dict[str, Any], str]]]
    ) -> dict[str, Any]:
        """The stored answer, or the one on its way, or a new one committed before it is returned.

        `ask` returns an answer and, where it may not be used again, the reason to keep it as an attempt.
        """
        desk, key = self._desk, question.key()
        stored = desk.store.answer(key)
        if stored is not None:
            desk.reused += 1
            return stored
        if key in desk.in_flight:
            desk.reused += 1
            return await asyncio.shield(desk.in_flight[key])
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        desk.in_flight[key] = future
        try:
            desk.asked += 1
            answer, unusable = await ask()
            if unusable:
                desk.store.add_attempt(key, desk.stage, self._row_id, unusable, answer)
            else:
                desk.store.put_answer(key, desk.stage, self._row_id, _note(question, request), answer)
            future.set_result(answer)
        except RowError as problem:
            desk.store.add_attempt(key, desk.stage, self._row_id, str(problem))
            future.set_exception(problem)
            future.exception()  # read here, as nobody else may be waiting for it
            raise
        finally:
            del desk.in_flight[key]
            future.cancel()
        return answer


def _note(question: Question, request: Request) -> dict[str, Any]:
    """The request as it is kept beside its answer, readable without the key."""
    asked = question.model_dump(mode="json", include={"step", "index", "principle_id", "labels"})
    return {**asked, **request.model_dump(mode="json")}
