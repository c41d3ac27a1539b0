"""One stage at work: its rows and how they end, and each question with its seed, cache key and journal.

Every answer is committed to the store before it is returned. An error, a truncation or a label the
server did not score is kept as an attempt and never as an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from constitute.engines.base import Engine, ModelIdentity
from constitute.errors import Abstain, Filtered, RowError, RunMismatch, Unanswered
from constitute.pipeline.budget import Budget, Spent
from constitute.pipeline.cut import Mend, blames, why_cut
from constitute.progress import Progress
from constitute.stages.base import Sample
from constitute.store import Store, mended
from constitute.types import (
    Choice,
    Completion,
    Outcome,
    Principle,
    Record,
    Request,
    SamplingParams,
    Score,
    logprob_flaw,
)

KEY_VERSION = 2


class Identified(Protocol):
    """Anything with an id that is stable from run to run."""

    @property
    def id(self) -> str: ...


Result = BaseModel | list[Any]
# (row, sample) -> what the stage makes of the row.
Work = Callable[[Any, Sample], Awaitable[Result]]


class Counts(Record):
    """How a stage's rows ended, over all runs of the store; the three add up to the input.

    `resumed` rows had ended before this run; `asked` and `reused` count this run's questions.
    """

    stage: str
    ok: int = 0
    abstain: int = 0
    failed: int = 0
    resumed: int = 0
    asked: int = 0
    reused: int = 0

    @property
    def total(self) -> int:
        return self.ok + self.abstain + self.failed


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


def stays(before: Outcome, stage: str, mend: Mend | None, retry: bool) -> bool:
    """Whether a row that ended is left as it is; `retry` tries failed ones again, unless a mend must help."""
    if mend is not None and mend.helps(before):
        return False
    again = retry and before.status == "failed"
    return not again or (mend is not None and bool(blames(stage, before.reason or "")))


@dataclass
class StageRun:
    """One stage at work: its engine and store, the questions on their way, and how its rows ended so far.

    `resumed` rows had ended before; `asked` and `reused` count questions. With `retry`, failed rows are
    tried again; with `mend`, rows that its new settings help are tried again with those. `shown` is the name
    under which tokens are counted where progress does not show the stage's. `budget` counts and limits what
    is asked.
    """

    stage: str
    engine: Engine
    store: Store
    seed: int
    progress: Progress
    keep_truncated: bool = False
    retry: bool = False
    version: int = 1
    shown: str = ""
    mend: Mend | None = None
    budget: Budget | None = None
    asked: int = 0
    reused: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    in_flight: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    held: list[tuple[Outcome, str, Mend | None]] = field(default_factory=list)
    """Rows that the server left unanswered since its last answer, with the hashes of their inputs."""

    async def row(
        self,
        position: int,
        row: Identified,
        work: Work,
        input_hash: str = "",
        mending: Work | None = None,
    ) -> Outcome:
        """Run `work` on a row, or return how the row ended before; either is counted.

        A row that was left unanswered is held back until the next answer, or `settle` at the end of the
        run, shows that it failed by itself. Where the server is gone it was not the row's fault: the run
        ends, and the next one asks again.
        Raises `RunMismatch` for a row of the same id that was given something else.
        """
        mend = None
        found = self.store.ended(self.stage, row.id)
        if found is not None:
            before, stored = found
            self._same_input(row, stored, input_hash)
            mend = self.mend if self.mend is not None and self.mend.helps(before) else None
            if stays(before, self.stage, self.mend, self.retry):
                self.ended["resumed"] += 1
                self.ended[before.status] += 1
                return before
        try:
            keep = self.keep_truncated if mend is None else getattr(mend.settings, "keep_truncated", True)
            used = work if mend is None or mending is None else mending
            outcome = await self._run(position, row, used, keep)
        except Unanswered as problem:
            outcome = Outcome(row_id=row.id, position=position, status="failed", reason=str(problem))
            self.held.append((outcome, input_hash, mend))
            return outcome
        self._settle(outcome, input_hash, mend)
        return outcome

    def done_before(self, total: int | None) -> int:
        """Rows that ended and stay as they are, of the `total` that are gone through where it is known."""
        done = sum(self.store.counts(self.stage).values())
        if self.retry or self.mend is not None:
            ended = (*self.store.outcomes(self.stage, "abstain"), *self.store.outcomes(self.stage, "failed"))
            done -= sum(not stays(row, self.stage, self.mend, self.retry) for row in ended)
        return done if total is None else min(done, total)

    def settle(self) -> None:
        """Record held rows as failed: the server has answered since, or the run is over."""
        held, self.held = self.held, []
        for outcome, input_hash, mend in held:
            self._settle(outcome, input_hash, mend)

    def _settle(self, outcome: Outcome, input_hash: str, mend: Mend | None) -> None:
        # Noted first: where the process dies between the two, the row has not ended well and is noted again.
        mended.note(self.store, self.stage, outcome.row_id, None if mend is None else mend.changed)
        self.store.put_outcome(self.stage, outcome, input_hash)
        self.progress.advance(self.stage, outcome.status)
        self.ended[outcome.status] += 1

    def counts(self) -> Counts:
        """The rows that have ended so far."""
        return Counts(stage=self.stage, asked=self.asked, reused=self.reused, **self.ended)

    async def _run(self, position: int, row: Identified, work: Work, keep: bool) -> Outcome:
        try:
            result = await work(row, Sampler(self, row.id, keep))
        except Unanswered:
            raise
        except RowError as problem:
            return Outcome(row_id=row.id, position=position, status="failed", reason=str(problem))
        except Abstain as decline:
            return Outcome(row_id=row.id, position=position, status="abstain", reason=str(decline))
        return Outcome(row_id=row.id, position=position, status="ok", data=_plain(result))

    def _same_input(self, row: Identified, stored: str, input_hash: str) -> None:
        if stored != input_hash:
            raise RunMismatch(
                f"row {row.id!r} of {self.stage} was given something else when it was first run in "
                f"{self.store.folder}; give the same input, or another --run DIR"
            )


class Sampler:
    """The `Sample` of one row; see `constitute.stages.base`."""

    def __init__(self, run: StageRun, row_id: str, keep: bool | None = None) -> None:
        self._run = run
        self._keep = run.keep_truncated if keep is None else keep
        self._row_id = row_id

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        """One completion, seeded from (run seed, stage, row id, step, index).

        Raises `RowError` for a completion cut at `max_tokens`, unless the stage keeps those.
        """
        run = self._run
        seed = derive_seed(run.seed, run.stage, self._row_id, step, index)
        request = request.model_copy(update={"sampling": request.sampling.model_copy(update={"seed": seed})})
        question = self._question(request, step=step, index=index, principle=principle)

        async def ask() -> tuple[dict[str, Any], str]:
            completion = await run.engine.generate(request)
            _sound(logprob_flaw(completion.logprobs))
            run.progress.tokens(run.shown or run.stage, len(completion.token_ids))
            return completion.model_dump(mode="json"), refused(completion)

        def refused(completion: Completion) -> str:
            return why_cut(run.stage, step, request, completion, keep=self._keep)

        completion = Completion.model_validate(await self._answer(question, request, ask))
        if why := refused(completion):
            raise RowError(why)
        return completion

    async def choose(
        self,
        request: Request,
        labels: Sequence[str],
        *,
        step: str,
        principle: Principle | None = None,
        spelled: bool = False,
    ) -> Choice:
        """Log-probabilities of the labels, None for one the server did not score.

        The same question of two rows is asked once.
        """
        run = self._run
        question = self._question(
            request, step=step, principle=principle, labels=tuple(labels), spelled=spelled
        )

        async def ask() -> tuple[dict[str, Any], str]:
            choice = await run.engine.choose(request, labels, spelled=spelled)
            _sound(choice.flaw)
            values = dict(zip(labels, choice.logprobs, strict=True))
            missing = [label for label, value in values.items() if value is None]
            # A probability of 0 is used, and JSON has no number for its logarithm.
            zero = [label for label, value in values.items() if value == -math.inf]
            reason = f"{step}: the server did not score {', '.join(missing)}" if missing else ""
            reason = reason or (f"{step}: {', '.join(zero)} has the probability 0" if zero else "")
            return choice.model_dump(), reason

        return Choice.model_validate(await self._answer(question, request, ask))

    async def score(
        self, request: Request, text: str, *, step: str, principle: Principle | None = None
    ) -> Score:
        """Log-probabilities of `text` as the answer; the same question of two rows is asked once."""
        run = self._run
        question = self._question(request, step=step, principle=principle, text=text)

        async def ask() -> tuple[dict[str, Any], str]:
            score = await run.engine.score(request, text)
            _sound(score.flaw or ("" if math.isfinite(score.total) else "the text has the probability 0"))
            return score.model_dump(mode="json"), ""

        return Score.model_validate(await self._answer(question, request, ask))

    def _question(
        self,
        request: Request,
        *,
        step: str,
        principle: Principle | None,
        index: int = 0,
        labels: tuple[str, ...] = (),
        spelled: bool = False,
        text: str = "",
    ) -> Question:
        run = self._run
        return Question(
            stage=run.stage,
            stage_version=run.version,
            prompt_sha256=hashlib.sha256(run.engine.rendered(request)).hexdigest(),
            model=run.engine.identity,
            sampling=request.sampling,
            step=step,
            index=index,
            principle_id=principle.id if principle else "",
            principle_sha256=hashlib.sha256(principle.text.encode()).hexdigest() if principle else "",
            labels=labels,
            spelled=spelled,
            text_sha256=hashlib.sha256(text.encode()).hexdigest() if text else "",
            thinking=request.thinking,
        )

    async def _answer(
        self, question: Question, request: Request, ask: Callable[[], Awaitable[tuple[dict[str, Any], str]]]
    ) -> dict[str, Any]:
        """The stored answer, or the one on its way, or a new one committed before it is returned.

        `ask` returns an answer and, where it may not be used again, the reason to keep it as an attempt.
        """
        run, key = self._run, question.key()
        stored = await run.store.known(key)
        if stored is not None:
            run.reused += 1
            return stored
        most = self._most(question, request)
        if run.budget is not None and key not in run.in_flight:
            await run.budget.take(most)
            if key in run.in_flight:
                run.budget.give(most, Spent())
        if key in run.in_flight:
            run.reused += 1
            return await asyncio.shield(run.in_flight[key])
        used = most.model_copy(update={"answer_tokens": 0})
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        run.in_flight[key] = future
        try:
            run.asked += 1
            answer, unusable = await ask()
            used = _used(most, answer)
            run.settle()
            if unusable:
                run.store.add_attempt(key, run.stage, self._row_id, unusable, _finite(answer))
            else:
                run.store.put_answer(key, run.stage, self._row_id, _note(question, request), answer)
            await run.store.acknowledged()
            future.set_result(answer)
        except RowError as problem:
            if isinstance(problem, Filtered) and question.principle_id:
                # Reasons are counted by their words: which principles a filter does not judge.
                problem = Filtered(f"{problem} under principle {question.principle_id}")
            if not isinstance(problem, Unanswered):
                run.settle()
            run.store.add_attempt(key, run.stage, self._row_id, str(problem))
            future.set_exception(problem)
            future.exception()  # read here, as nobody else may be waiting for it
            raise problem from None
        finally:
            del run.in_flight[key]
            future.cancel()
            if run.budget is not None:
                run.budget.give(most, used)
        return answer

    def _most(self, question: Question, request: Request) -> Spent:
        """What a question may cost at most; a prompt that the server renders is guessed by its characters."""
        if self._run.budget is None:
            return Spent()
        ids = self._run.engine.prompt_ids(request)
        text = sum(len(message.content) for message in request.messages) + len(request.prefill)
        answers = not question.labels and not question.text_sha256
        return Spent(
            requests=1,
            prompt_tokens=text // 4 + 1 if ids is None else len(ids),
            answer_tokens=request.sampling.max_tokens + request.thinking if answers else 1,
        )


def _used(most: Spent, answer: Mapping[str, Any]) -> Spent:
    """What a question cost: what the engine counted, where it did."""
    if "finish_reason" not in answer:
        return most
    prompt = answer["prompt_tokens"]
    tokens = most.prompt_tokens if prompt is None else prompt
    return Spent(requests=1, prompt_tokens=tokens, answer_tokens=len(answer["token_ids"]))


def _sound(flaw: str) -> None:
    """Raise `RowError` for an answer that holds what is no log-probability: it is never stored as one."""
    if flaw:
        raise RowError(flaw)


def _finite(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with null for each log-probability of -inf: JSON has no such number."""
    values = answer.get("logprobs") or ()
    return {**answer, "logprobs": [None if value == -math.inf else value for value in values]}


def _note(question: Question, request: Request) -> dict[str, Any]:
    """The request as it is kept beside its answer, readable without the key."""
    asked = question.model_dump(mode="json", include={"step", "index", "principle_id", "labels", "spelled"})
    return {**asked, **request.model_dump(mode="json")}


def _plain(result: Result) -> dict[str, Any]:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    return {
        "items": [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in result]
    }
