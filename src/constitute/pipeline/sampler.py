"""The questions of one row: each with its seed, its cache key and its journal.

Every answer is committed to the store before it is returned. An error, a truncation or a label the
server did not score is kept as an attempt and never as an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from constitute.errors import Filtered, RowError, Unanswered
from constitute.pipeline.budget import Spent
from constitute.pipeline.cut import why_cut
from constitute.pipeline.question import Question, derive_seed
from constitute.types import Choice, Completion, Principle, Request, Score, logprob_flaw

if TYPE_CHECKING:
    from constitute.pipeline.stage_run import StageRun


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
