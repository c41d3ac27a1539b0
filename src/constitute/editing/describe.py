"""Ask a model to word principles for what somebody wants of an assistant, and read its answers strictly."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from constitute.config import RunConfig
from constitute.constitution.new import Wording
from constitute.engines import open_engine
from constitute.engines.base import Engine
from constitute.errors import RowError, UsageError
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.stage_run import Sampler, StageRun
from constitute.progress import Progress, Silent
from constitute.store import Store
from constitute.templates import render
from constitute.types import Message, Request, SamplingParams

LABELS = {"Principle": "text", "Critique": "critique", "Revision": "revise", "Comparison": "compare"}
SAID = SamplingParams(max_tokens=512, temperature=0.0)
_LINE = re.compile(r"(\w+): *(\S.*)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def read_wording(text: str) -> Wording:
    """The four labelled lines of an answer, each once and nothing else; `RowError` says what is wrong."""
    found: dict[str, str] = {}
    for line in filter(str.strip, text.split("\n")):
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] not in LABELS:
            raise RowError(f"a line of its answer has no known label: {_short(line)!r}")
        if LABELS[match[1]] in found:
            raise RowError(f"its answer has two lines {match[1]!r}")
        if _CONTROL.search(match[2]):
            raise RowError(f"its line {match[1]!r} holds a control character")
        found[LABELS[match[1]]] = match[2]
    missing = [label for label, key in LABELS.items() if key not in found]
    if missing:
        raise RowError(f"its answer has no line {', '.join(map(repr, missing))}")
    return Wording(**found)


async def describe(
    aims: Sequence[str], engine: Engine, store: Store, config: RunConfig, progress: Progress | None = None
) -> list[Wording]:
    """A wording for each aim, in their order; one that could not be had is the aim itself with the reason."""
    progress = progress or Silent()
    desk = StageRun("describe", engine, store, config.seed, progress)
    words: dict[str, Wording] = {}

    async def settle(aim: str) -> None:
        question = Message(role="user", content=render("describe_principles", aim=aim))
        try:
            request = Request(messages=(question,), sampling=SAID)
            answer = await Sampler(desk, aim).generate(request, step="describe")
            words[aim] = read_wording(answer.text)
        except RowError as problem:
            words[aim] = Wording(aim, failed=str(problem) or type(problem).__name__)
        progress.advance("describe", "failed" if words[aim].failed else "ok")

    progress.start("describe", len(aims))
    await run_jobs(list(aims), settle, max(1, config.engine.in_flight))
    progress.finish("describe")
    return [words[aim] for aim in aims]


def run_describe(aims: Sequence[str], config: RunConfig, progress: Progress) -> list[Wording]:
    """Open `config.model` and the store at `config.run`, and ask; answers are kept and not asked again."""
    if config.model is None:
        raise UsageError("no model given; name one with --model, such as --model pocket")

    async def opened(store: Store) -> list[Wording]:
        engine = open_engine(str(config.model), config.engine)
        try:
            return await describe(aims, engine, store, config, progress)
        finally:
            await engine.close()

    with Store.open(config.run) as store:
        for notice in store.notices:
            progress.note(notice)
        return asyncio.run(opened(store))


def _short(line: str) -> str:
    flat = " ".join(line.split())
    return flat if len(flat) <= 60 else flat[:59] + "…"
