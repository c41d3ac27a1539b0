"""Jobs beside the chain, such as evals: rows are led through a stage that is named by its settings."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import GateFailed
from constitute.pipeline.drive import drive
from constitute.pipeline.session import dated, open_store
from constitute.pipeline.stage_run import Work
from constitute.progress import Progress, Silent
from constitute.store import Store
from constitute.store.manifest import MANIFEST_FILE, save_config, write_manifest
from constitute.types import Constitution, Outcome

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """An open run directory and the engine that answers."""

    config: RunConfig
    store: Store
    engine: Engine
    progress: Progress

    @property
    def model(self) -> dict[str, Any]:
        """Identity of the model that answers, as JSON-ready values."""
        return self.engine.identity.model_dump(mode="json")

    async def outcomes(
        self,
        name: str,
        settings: dict[str, Any],
        rows: Sequence[Any],
        work: Work,
        *,
        keep_truncated: bool = False,
    ) -> list[Outcome]:
        """How each row ends in the stage `name`/HASH; the hash is that of the settings and the model.

        So rows of another model or of other settings are never taken for these. With `keep_truncated`, `work`
        is given answers that were cut off.
        """
        settings = {"model": self.model, **settings}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        stage = f"{name}/{digest}"
        self.store.put_meta(f"stage:{stage}", settings)
        await drive(
            stage,
            rows,
            work,
            engine=self.engine,
            store=self.store,
            seed=self.config.seed,
            in_flight=self.config.engine.in_flight,
            progress=self.progress,
            total=len(rows),
            keep_truncated=keep_truncated,
        )
        # An earlier run may have asked for more rows than this one.
        ids = {row.id for row in rows}
        return [outcome for outcome in self.store.outcomes(stage) if outcome.row_id in ids]


Job = Callable[[Session], Awaitable[T]]


def run_in_session(
    config: RunConfig,
    jobs: Sequence[Job[T]],
    *,
    constitution: Constitution | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> list[T]:
    """What the jobs return, run one after the other on the run `config.run`; blocks until done.

    `engine`, where given, answers in the place of `config.model` and is left open. A job that raises
    `GateFailed` stops no other; their sentences are raised together at the end.
    """
    if engine is None:
        named_model(config.model)
    progress = progress or Silent()
    with open_store(config, progress) as store:
        done, failures = block(_run(config, jobs, store, engine, progress))
        # A run's configuration and manifest speak of the model that made its data, not of one scored on it.
        if not (config.run / MANIFEST_FILE).exists():
            save_config(config.run, config)
            write_manifest(store, config, constitution)
    if failures:
        raise GateFailed("; ".join(failures))
    return done


async def _run(
    config: RunConfig, jobs: Sequence[Job[T]], store: Store, engine: Engine | None, progress: Progress
) -> tuple[list[T], list[str]]:
    done: list[T] = []
    failures: list[str] = []
    settings = dated(config).engine.model_copy(update={"plain": True})
    async with use_engine(config.model, settings, progress, engine) as used:
        for job in jobs:
            try:
                done.append(await job(Session(config, store, used, progress)))
            except GateFailed as failure:
                failures.append(str(failure))
    return done, failures


def reasons(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Why rows did not end ok, the commonest reason first."""
    return dict(Counter(o.reason or o.status for o in outcomes if o.status != "ok").most_common())
