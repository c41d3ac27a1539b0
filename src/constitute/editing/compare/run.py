"""Revise the same drafts under two constitutions and let three judges compare the revisions.

The judges are the model under each of the two constitutions, and the model without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

from constitute.blocking import block
from constitute.config import LabelConfig, RunConfig
from constitute.data.prompts import content_id, read_prompts
from constitute.editing.compare.figures import (
    JUDGES,
    Contest,
    Contests,
    Judge,
    Judgement,
    contests_of,
    judgement_of,
)
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import Abstain, RowError, UsageError
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.session import dated, open_store
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Progress, Silent
from constitute.stages.base import Sample
from constitute.stages.generate import generate, response_id
from constitute.stages.labels.choice import LABELS, vote_of
from constitute.stages.labels.read import read
from constitute.stages.labels.stage import label
from constitute.stages.revise import revise
from constitute.store import Store
from constitute.templates import render
from constitute.types import (
    Comparison,
    Constitution,
    Message,
    PrincipleVote,
    Prompt,
    Response,
    Status,
)

T = TypeVar("T")
TIE = Judgement(p_b=0.5)


@dataclass(frozen=True)
class Compared:
    """The figures, the rows behind them, and how the questions went."""

    figures: Contests
    rows: tuple[Contest, ...]
    asked: int
    reused: int


def prompts_for(config: RunConfig, a: Constitution, b: Constitution) -> list[Prompt]:
    """The prompts of the configuration's file, else the probes of both constitutions, each once.

    Raises `UsageError` where there are neither.
    """
    if config.prompts is not None:
        return read_prompts(config.prompts, limit=config.limit, reading=config.read)[0]
    found: dict[str, Prompt] = {}
    for probe in (probe for side in (a, b) for principle in side.principles for probe in principle.probes):
        messages = (Message(role="user", content=probe.prompt),)
        name = content_id(messages)
        found.setdefault(name, Prompt(id=name, messages=messages, source="probes"))
    if not found:
        raise UsageError("neither constitution holds probes; name a file of prompts with --prompts FILE")
    return list(found.values())[: config.limit]


def compare_constitutions(
    config: RunConfig,
    a: Constitution,
    b: Constitution,
    prompts: Sequence[Prompt],
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Compared:
    """Draft once, critique and revise under each, and compare the revisions; blocks until done.

    Answers are kept in the store of `config.run`. `engine`, where given, answers everything and is left
    open; else `config.model` does, and `config.judge`, where named, compares. Raises `UsageError`,
    `EngineError`, `StorageError`; what goes wrong with one prompt is a problem of its row.
    """
    if engine is None:
        named_model(config.model)
    progress = progress or Silent()
    with open_store(config, progress) as store:
        return block(_compare(config, (a, b), prompts, engine, store, progress))


async def _compare(
    config: RunConfig,
    sides: tuple[Constitution, Constitution],
    prompts: Sequence[Prompt],
    given: Engine | None,
    store: Store,
    progress: Progress,
) -> Compared:
    async with AsyncExitStack() as opened:
        engine = await opened.enter_async_context(
            use_engine(config.model, dated(config).engine, progress, given)
        )
        judge = engine
        if given is None and config.judge is not None:
            judge = await opened.enter_async_context(use_engine(config.judge, dated(config).engine, progress))
        comparer = _Comparer(config, sides, engine, judge, store, progress)
        rows: dict[str, Contest] = {}
        progress.start("compare", len(prompts))

        async def compare_one(prompt: Prompt) -> None:
            rows[prompt.id] = row = await comparer.contest(prompt)
            progress.advance("compare", row.problems[0][1] if row.problems else "ok")

        await run_jobs(prompts, compare_one, max(1, config.engine.in_flight // 2))
        progress.finish("compare")
    ordered = tuple(rows[prompt.id] for prompt in prompts)
    figures = contests_of(ordered, seed=config.seed)
    runs = comparer.runs
    return Compared(figures, ordered, sum(run.asked for run in runs), sum(run.reused for run in runs))


class _Comparer:
    """The stages in which one prompt after the other is drafted, revised and compared."""

    def __init__(
        self,
        config: RunConfig,
        sides: tuple[Constitution, Constitution],
        engine: Engine,
        judge: Engine,
        store: Store,
        progress: Progress,
    ) -> None:
        def stage_run(stage: str, keep: bool) -> StageRun:
            return StageRun(stage, judge if stage == "label" else engine, store, config.seed, progress, keep)

        self._config, self._sides = config, sides
        self._drafts = stage_run("generate", config.generate.keep_truncated)
        # One for both sides: the same principle drawn by both is asked once and gives the same words.
        self._revisions = stage_run("revise", config.revise.keep_truncated)
        self._labels = stage_run("label", True)
        self.runs = (self._drafts, self._revisions, self._labels)

    async def contest(self, prompt: Prompt) -> Contest:
        """All of one prompt. What cannot be made or judged is among its problems."""
        name = response_id(prompt.id, 0)
        row = Contest(id=prompt.id, prompt=prompt)
        sample = Sampler(self._drafts, name)
        draft = await _tried(generate(prompt, sample, self._config.generate))
        if isinstance(draft, Exception):
            return row.model_copy(update={"problems": (_problem("draft", draft),)})
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_tried(self._revised(draft, side))) for side in self._sides]
        a, b = (task.result() for task in tasks)
        problems = [
            _problem(f"revision under {side}", one)
            for side, one in zip("AB", (a, b), strict=True)
            if isinstance(one, Exception)
        ]
        row = row.model_copy(
            update={
                "draft": draft.response,
                "a": None if isinstance(a, Exception) else a.final,
                "b": None if isinstance(b, Exception) else b.final,
                "problems": tuple(problems),
            }
        )
        return await self._judged(row, draft) if not problems else row

    async def _revised(self, draft: Response, side: Constitution) -> Response:
        sample = Sampler(self._revisions, draft.id)
        return await revise(draft, sample, self._config.revise, side)

    async def _judged(self, row: Contest, draft: Response) -> Contest:
        """The row with every judge's judgement; the same words are a tie that nobody is asked about."""
        assert row.a is not None and row.b is not None, "checked before"
        if row.same:
            return row.model_copy(update={"judgements": dict.fromkeys(JUDGES, TIE)})
        pair = Comparison(
            id=f"{draft.id}-ab",
            prompt=draft.prompt,
            a=row.a,
            b=row.b,
            a_source="revision under A",
            b_source="revision under B",
        )
        async with asyncio.TaskGroup() as group:
            tasks = {judge: group.create_task(_tried(self._judgement(pair, judge))) for judge in JUDGES}
        found = {judge: task.result() for judge, task in tasks.items()}
        judgements = {judge: one for judge, one in found.items() if isinstance(one, Judgement)}
        problems = tuple(
            _problem(f"judge {judge}", one) for judge, one in found.items() if isinstance(one, Exception)
        )
        return row.model_copy(update={"judgements": judgements, "problems": problems})

    async def _judgement(self, pair: Comparison, judge: Judge) -> Judgement:
        sample, cfg = Sampler(self._labels, pair.id), self._config.label
        if judge == "neutral":
            vote = await neutral_vote(pair, sample, cfg)
            return judgement_of((vote,), vote.p_a)
        side = self._sides[0] if judge == "A" else self._sides[1]
        labelled = await label(pair, sample, cfg, side)
        return judgement_of(labelled.label.votes, labelled.label.p_a)


async def neutral_vote(pair: Comparison, sample: Sample, cfg: LabelConfig) -> PrincipleVote:
    """P(A) of a judge that is given no principle (`prompts/compare_neutral.j2`), in both orders.

    Raises `Abstain` as `stages.labels.read` does.
    """
    readings = []
    for order, row in (("neutral-ab", pair), ("neutral-ba", pair.swap())):
        text = render("compare_neutral", messages=row.prompt.messages, a=row.a, b=row.b)
        asked = ((Message(role="user", content=text),), order, None)
        readings.append(await read(sample, asked, LABELS, cfg, order))
    return vote_of(readings[0], readings[1])


async def _tried(work: Awaitable[T]) -> T | RowError | Abstain:
    """What `work` gives, or why it cannot."""
    try:
        return await work
    except (RowError, Abstain) as problem:
        return problem


def _problem(stage: str, problem: Exception) -> tuple[str, Status, str]:
    return stage, "abstain" if isinstance(problem, Abstain) else "failed", str(problem)
