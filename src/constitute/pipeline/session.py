"""Run data stages from a configuration: open the run and its engines, drive, write what made it, close."""

from __future__ import annotations

from collections.abc import Sequence

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.engines import open_engine
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.pipeline.chain import check_request, claim_stages, run_chain
from constitute.pipeline.drive import Counts
from constitute.progress import Progress, Silent
from constitute.store import Store
from constitute.store.manifest import UNFINISHED, save_config, write_manifest
from constitute.types import Comparison, Constitution, Prompt


def run_stages(
    config: RunConfig,
    stages: Sequence[str],
    *,
    prompts: Sequence[Prompt] | None = None,
    pairs: Sequence[Comparison] | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    retry: bool = False,
) -> dict[str, Counts]:
    """Run `stages` in the run directory `config.run` and return their counts; blocks until done.

    `engine`, where given, answers in the place of `config.model` and is left open. Everything that can
    be refused without a model is refused before one is loaded. Raises every `ConstituteError`.
    """
    if engine is None and config.model is None:
        raise UsageError("no model given; name one with --model, such as --model pocket")
    constitution = load_constitution(config.constitution, config.tags) if config.constitution else None
    progress = progress or Silent()
    with Store.open(config.run, create="generate" in stages or pairs is not None) as store:
        if config.reuse is not None:
            store.reuse(config.reuse)
        check_request(config, constitution, stages, prompts is not None, pairs is not None, store)
        for notice in store.notices:
            progress.note(notice)
        job = _run(config, constitution, stages, prompts, pairs, engine, store, progress, retry)
        return block(job)


async def _run(
    config: RunConfig,
    constitution: Constitution | None,
    stages: Sequence[str],
    prompts: Sequence[Prompt] | None,
    pairs: Sequence[Comparison] | None,
    engine: Engine | None,
    store: Store,
    progress: Progress,
    retry: bool,
) -> dict[str, Counts]:
    opened: list[Engine] = []
    judge: Engine | None = None
    only_judge = config.judge is not None and tuple(stages) == ("label",)
    try:
        if engine is None:
            engine = open_engine(str(config.judge if only_judge else config.model), config.engine)
            opened.append(engine)
        if config.judge is not None and "label" in stages and not only_judge:
            judge = open_engine(config.judge, config.engine)
            opened.append(judge)
        claim_stages(config, constitution, stages, engine, judge, pairs is not None, store)
        save_config(config.run, config)
        for stage in stages:
            store.put_meta(UNFINISHED + stage, True)
        try:
            counts = await run_chain(
                config,
                constitution,
                prompts,
                engine,
                store,
                stages,
                judge=judge,
                pairs=pairs,
                progress=progress,
                total=_length(prompts, pairs),
                retry=retry,
            )
            for stage in stages:
                store.put_meta(UNFINISHED + stage, False)
            return counts
        finally:
            write_manifest(store, config, constitution)
    finally:
        for each in opened:
            await each.close()


def _length(*inputs: Sequence[object] | None) -> int | None:
    return next((len(rows) for rows in inputs if rows is not None), None)
