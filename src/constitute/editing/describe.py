"""Ask a model to word principles for what somebody wants of an assistant, and read its answers strictly."""

from __future__ import annotations

import re
from collections.abc import Sequence

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.constitution.new import GivenWording
from constitute.constitution.read import FORMS
from constitute.constitution.write import own_forms
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import RowError
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.session import dated, open_store
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Progress, Silent
from constitute.store import Store
from constitute.strict_yaml import shorten
from constitute.templates import render
from constitute.types import Constitution, Message, Principle, Request, SamplingParams

LABELS = {"Principle": "text", "Critique": "critique", "Revision": "revise", "Comparison": "compare"}
SAID = SamplingParams(max_tokens=512, temperature=0.0)
_LINE = re.compile(r"(\w+): *(\S.*)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def read_wording(text: str) -> GivenWording:
    """The four labelled lines of an answer, each once and nothing else; `RowError` says what is wrong."""
    found: dict[str, str] = {}
    for line in filter(str.strip, text.split("\n")):
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] not in LABELS:
            raise RowError(f"a line of its answer has no known label: {shorten(line)!r}")
        if LABELS[match[1]] in found:
            raise RowError(f"its answer has two lines {match[1]!r}")
        if _CONTROL.search(match[2]):
            raise RowError(f"its line {match[1]!r} holds a control character")
        found[LABELS[match[1]]] = match[2]
    missing = [label for label, key in LABELS.items() if key not in found]
    if missing:
        raise RowError(f"its answer has no line {', '.join(map(repr, missing))}")
    return GivenWording(**found)


async def describe(
    aims: Sequence[str], engine: Engine, store: Store, config: RunConfig, progress: Progress | None = None
) -> list[GivenWording]:
    """A wording for each aim, in their order; where the model gave none, the aim itself with the reason."""
    progress = progress or Silent()
    run = StageRun("describe", engine, store, config.seed, progress)
    words: dict[str, GivenWording] = {}

    async def describe_one(aim: str) -> None:
        question = Message(role="user", content=render("describe_principles", aim=aim))
        try:
            request = Request(messages=(question,), sampling=SAID)
            answer = await Sampler(run, aim).generate(request, step="describe")
            words[aim] = read_wording(answer.text)
        except RowError as problem:
            words[aim] = GivenWording(aim, failed=str(problem) or type(problem).__name__)
        progress.advance("describe", "failed" if words[aim].failed else "ok")

    progress.start("describe", len(aims))
    await run_jobs(list(aims), describe_one, max(1, config.engine.in_flight))
    progress.finish("describe")
    return [words[aim] for aim in aims]


def run_describe(
    aims: Sequence[str], config: RunConfig, progress: Progress | None = None, *, engine: Engine | None = None
) -> list[GivenWording]:
    """`describe` with the store at `config.run` and `engine`, else `config.model`; blocks until done.

    Answers are kept and not asked again. Raises `UsageError`, `EngineError`, `StorageError`.
    """
    progress = progress or Silent()
    if engine is None:
        named_model(config.model)

    async def opened(store: Store) -> list[GivenWording]:
        async with use_engine(config.model, dated(config).engine, progress, engine) as used:
            return await describe(aims, used, store, config, progress)

    with open_store(config, progress) as store:
        return block(opened(store))


def draft_forms(
    constitution: Constitution,
    config: RunConfig,
    progress: Progress | None = None,
    *,
    engine: Engine | None = None,
) -> tuple[Constitution, dict[str, str]]:
    """The constitution with the model's forms, as drafts, for each principle that has none of its own.

    The texts stay as they are. Returns as well, by id, why a principle keeps the templates' forms. Raises
    as `run_describe` does.
    """
    bare = [p for p in constitution.principles if not own_forms(p)]
    texts = list(dict.fromkeys(p.text for p in bare))
    words = dict(zip(texts, run_describe(texts, config, progress, engine=engine), strict=True))
    failed = {p.id: words[p.text].failed for p in bare if words[p.text].failed}
    written = {p.id: words[p.text] for p in bare if p.id not in failed}

    def drafted(principle: Principle) -> Principle:
        wording = written.get(principle.id)
        if wording is None:
            return principle
        forms = {form: getattr(wording, form) for form in FORMS}
        return Principle.model_validate(principle.model_dump() | forms | {"draft": True})

    principles = tuple(map(drafted, constitution.principles))
    return constitution.model_copy(update={"principles": principles}), failed
