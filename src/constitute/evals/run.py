"""Write and score eval sets over a run directory: engine, store and driver put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.engines import open_engine
from constitute.engines.base import Engine
from constitute.errors import GateFailed, UsageError
from constitute.evals.files import load_sets, policy_name, safe_name, save_result, save_written
from constitute.evals.sets import Drive, SetResult, WrittenSet, run_set, write_persona, write_replies
from constitute.pipeline import drive
from constitute.progress import Progress, Silent
from constitute.store import Store
from constitute.store.manifest import MANIFEST_FILE, save_config, write_manifest
from constitute.types import Constitution, EvalItem, Principle, Record

Job = Callable[[Drive, Store, Record], Awaitable[Any]]


def write_sets(
    config: RunConfig,
    behaviors: Sequence[str],
    principle_ids: Sequence[str],
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> list[WrittenSet]:
    """Write and save a set for each behaviour, and one for the principles of the configured constitution.

    `engine`, where given, answers in the place of `config.model` and is left open. Sets that pass are
    saved even where another does not; then raises `GateFailed`.
    """
    if not behaviors and not principle_ids:
        raise UsageError(
            "nothing to write items for; give --behavior \"flatters the user\" or --principle ID (or 'all')"
        )
    if principle_ids and config.constitution is None:
        raise UsageError("--principle needs a --constitution FILE to look the principle up in")
    constitution = load_constitution(config.constitution, config.tags) if config.constitution else None
    jobs: list[Job] = [partial(_persona, behavior, config) for behavior in behaviors]
    if principle_ids and constitution is not None:
        principles = pick_principles(constitution, principle_ids)
        name = constitution.name if "all" in principle_ids else "-".join(p.id for p in principles)
        jobs.append(partial(_replies, name, principles, config))
    return _run(config, jobs, engine, progress or Silent(), constitution)


def run_sets(
    config: RunConfig,
    files: Sequence[Path] = (),
    *,
    policy: str | None = None,
    limit: int | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> list[SetResult]:
    """Score a policy on each file, or on every set of the run, and save the results.

    `engine` as in `write_sets`. Results that pass are saved; then raises `GateFailed` where one did not.
    """
    sets = load_sets(files, config.run, limit)
    name = safe_name(policy) if policy else policy_name(config.model or "")
    jobs: list[Job] = [partial(_score, set_name, items, name, config) for set_name, items in sets.items()]
    return _run(config, jobs, engine, progress or Silent(), None)


def pick_principles(constitution: Constitution, ids: Sequence[str]) -> list[Principle]:
    """The principles named, or every one for 'all', in the constitution's order."""
    known = [principle.id for principle in constitution.principles]
    for identity in ids:
        if identity != "all" and identity not in known:
            raise UsageError(
                f"no principle {identity!r} in {constitution.name!r}; known: all, {', '.join(known)}"
            )
    return [p for p in constitution.principles if "all" in ids or p.id in ids]


def _run(
    config: RunConfig,
    jobs: Sequence[Job],
    engine: Engine | None,
    progress: Progress,
    constitution: Constitution | None,
) -> list[Any]:
    if engine is None and config.model is None:
        raise UsageError("no model given; name one with --model, such as --model pocket")
    with Store.open(config.run) as store:
        done, failures = asyncio.run(_all(config, jobs, engine, store, progress))
        # A run's configuration and manifest speak of the model that made its data, not of one scored on it.
        if not (config.run / MANIFEST_FILE).exists():
            save_config(config.run, config)
            write_manifest(store, config, constitution)
    if failures:
        raise GateFailed("; ".join(str(failure) for failure in failures))
    return done


async def _all(
    config: RunConfig, jobs: Sequence[Job], engine: Engine | None, store: Store, progress: Progress
) -> tuple[list[Any], list[GateFailed]]:
    """What each job returned, and the gates that were not met; the engine is closed if opened here."""
    used = engine or open_engine(str(config.model), config.engine)
    run_stage = partial(
        drive,
        engine=used,
        store=store,
        seed=config.seed,
        in_flight=config.engine.in_flight,
        progress=progress,
    )
    done: list[Any] = []
    failures: list[GateFailed] = []
    try:
        for job in jobs:
            try:
                done.append(await job(run_stage, store, used.identity))
            except GateFailed as failure:
                failures.append(failure)
    finally:
        if engine is None:
            await used.close()
    return done, failures


async def _persona(behavior: str, config: RunConfig, run: Drive, store: Store, model: Record) -> WrittenSet:
    written = await write_persona(behavior, drive=run, store=store, model=model, cfg=config.evals)
    save_written(config.run, written)
    return written


async def _replies(
    name: str, principles: Sequence[Principle], config: RunConfig, run: Drive, store: Store, model: Record
) -> WrittenSet:
    written = await write_replies(name, principles, drive=run, store=store, model=model, cfg=config.evals)
    save_written(config.run, written)
    return written


async def _score(
    name: str,
    items: Sequence[EvalItem],
    policy: str,
    config: RunConfig,
    run: Drive,
    store: Store,
    model: Record,
) -> SetResult:
    result = await run_set(name, items, policy=policy, drive=run, store=store, model=model, cfg=config.evals)
    save_result(config.run, result)
    return result
