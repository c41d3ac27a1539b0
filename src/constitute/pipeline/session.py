"""Run data stages from a configuration: open the run and its engines, drive, write what made it, close."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import AsyncExitStack, contextmanager

from constitute import clock
from constitute.blocking import block
from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.engines import named_model, open_when_asked, use_engine
from constitute.engines.base import Engine
from constitute.engines.none import NoEngine
from constitute.pipeline import shards
from constitute.pipeline.budget import Budget, Limits
from constitute.pipeline.chain import expected_rows, run_chain
from constitute.pipeline.plan import Plan, check_abilities, check_claims, claim_chain, mend_plan, plan_chain
from constitute.pipeline.stage_run import Counts
from constitute.progress import Progress, Silent
from constitute.stages import stage_spec
from constitute.stages.card import LABEL, note_card
from constitute.store import FILE_NAME, Store
from constitute.store.manifest import save_config, write_manifest
from constitute.store.unfinished import begin, end, saw_every_row, warn_unfinished
from constitute.types import Comparison, Prompt

# The store's note of the day that its run began; templates that write the date are told it ever after.
_DAY = "date"


@contextmanager
def open_store(config: RunConfig, progress: Progress, *, create: bool = True) -> Iterator[Store]:
    """The store of `config.run`, with the answers of `config.reuse` at hand; its notices are told.

    Raises `UsageError`, `RunMismatch` or `StorageError`, as `Store.open` does.
    """
    with Store.open(config.run, create=create) as store:
        if config.reuse is not None:
            store.reuse(config.reuse)
        for notice in store.notices:
            progress.note(notice)
        if store.meta(_DAY) is None:
            store.put_meta(_DAY, dated(config).engine.date or clock.today())
        yield store


def dated(config: RunConfig) -> RunConfig:
    """The configuration with the day that the run `config.run` began, for templates that write one.

    A run that is yet to begin has the day of the run whose answers it uses again. A day that the
    configuration names stays; where there is no run, it names none.
    """
    for folder in (config.run, config.reuse):
        if config.engine.date is None and folder is not None and (folder / FILE_NAME).is_file():
            with Store.open(folder, create=False, readonly=True) as store:
                config = _on(config, store.meta(_DAY))
    return config


def _on(config: RunConfig, day: str | None) -> RunConfig:
    if config.engine.date is not None or day is None:
        return config
    return config.model_copy(update={"engine": config.engine.model_copy(update={"date": day})})


def run_stages(
    config: RunConfig,
    stages: Sequence[str],
    *,
    prompts: Iterable[Prompt] | None = None,
    pairs: Iterable[Comparison] | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    retry: bool = False,
    limits: Limits | None = None,
) -> dict[str, Counts]:
    """Run `stages` in the run directory `config.run` and return their counts; blocks until done.

    `engine`, where given, answers in the place of `config.model` and is left open. `limits` bound what the
    run may spend over all its commands. With `config.shard`, `prompts` and `pairs` are those of all shards;
    they are gone through once, as they are needed. Everything that can be refused without a model is refused
    before one is loaded. Raises every `ConstituteError`.
    """
    if engine is None:
        if any(stage_spec(stage).asks for stage in stages):
            named_model(config.model)
        else:
            engine = NoEngine()
    constitution = load_constitution(config.constitution, config.tags) if config.constitution else None
    progress = progress or Silent()
    begins = any(stage_spec(stage).reads == "prompt" for stage in stages)
    with open_store(config, progress, create=begins or pairs is not None) as store:
        config = _on(config, store.meta(_DAY))
        part = sharded(config, stages, store, pairs if pairs is not None else prompts)
        if part is not None:
            prompts, pairs = (part.rows, None) if pairs is None else (None, part.rows)
        places = None if part is None else part.places
        plan = plan_chain(config, constitution, stages, store, prompts=prompts, pairs=pairs, places=places)
        if retry:
            plan = mend_plan(plan, store)
        check_claims(plan, store)
        if plan.before is not None and pairs is None:
            warn_unfinished(store, plan.before, progress)
        given = pairs if prompts is None else prompts
        total = len(given) if isinstance(given, Sized) else None
        budget = Budget.of(store, limits or Limits())
        try:
            return block(_run(plan, part, budget, engine, progress, total, retry))
        finally:
            budget.save()


def sharded(
    config: RunConfig,
    stages: Sequence[str],
    store: Store,
    rows: Iterable[Prompt] | Iterable[Comparison] | None,
) -> shards.Part | None:
    """The shard of the input that is this run's, None where it takes all of it or reads stored rows.

    Raises `RunMismatch` where the run directory is that of another shard, or of other input.
    """
    part = None
    if config.shard is not None and rows is not None:
        part = shards.cut(config, rows, shards.lengths(store, stages))
    shards.check_shard(store, config, stages, part)
    return part


async def _run(
    plan: Plan,
    part: shards.Part | None,
    budget: Budget,
    given: Engine | None,
    progress: Progress,
    total: int | None,
    retry: bool,
) -> dict[str, Counts]:
    config, store = plan.config, budget.store
    judged = config.judge is not None and plan.last.reads == "pair"
    only_judged = judged and len(plan.steps) == 1
    async with AsyncExitStack() as opened:
        model = config.judge if only_judged else config.model
        # What has ended is seldom asked anything: its model is loaded with the first question, if any.
        opening = (
            None if retry or not all(saw_every_row(store, name) for name in plan.steps) else open_when_asked
        )
        engine = await opened.enter_async_context(use_engine(model, config.engine, progress, given, opening))
        judge = None
        if judged and not only_judged:
            judge = await opened.enter_async_context(
                use_engine(config.judge, config.engine, progress, None, opening)
            )
        for note in (note for asked in (engine, judge) for note in getattr(asked, "notes", ())):
            progress.note(note)
        check_abilities(plan, engine, judge)
        claim_chain(plan, engine, judge, store)
        save_config(config.run, config)
        shards.note(store, config, list(plan.steps), part, plan.before)
        for stage in plan.steps:
            begin(store, stage, expected_rows(stage, plan, total, store, retry=retry))
        try:
            counts = await run_chain(
                plan,
                engine,
                store,
                judge=judge,
                progress=progress,
                total=total,
                retry=retry,
                budget=budget,
            )
            for stage in plan.steps:
                end(store, stage)
            if LABEL in plan.steps:
                note_card(store)
            return counts
        finally:
            write_manifest(store, config, plan.constitution)
