"""Vote on given pairs under any constitution, asking only what the run's answers do not hold yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constitute.config import LabelConfig
from constitute.engines.base import Engine
from constitute.errors import Abstain, RowError
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.stage_run import Sampler, StageRun
from constitute.progress import Progress, Silent
from constitute.stages.label import label, voters
from constitute.store import Store
from constitute.types import Comparison, Constitution, LabelledPair


@dataclass(frozen=True)
class Votes:
    """Pairs as a constitution labels them, in the order given; `without` says why others have no label.

    `asked` and `reused` count questions: those put to the model, and those the store could answer.
    """

    labelled: tuple[LabelledPair, ...]
    without: tuple[tuple[str, str], ...]
    asked: int
    reused: int


async def vote(
    pairs: Sequence[Comparison],
    constitution: Constitution,
    engine: Engine,
    store: Store,
    cfg: LabelConfig,
    *,
    seed: int = 0,
    in_flight: int = 256,
    progress: Progress | None = None,
) -> Votes:
    """Label `pairs` as the stage `label` does; answers are kept in `store`, outcomes are not written.

    The store's rows stay those of its own constitution, so a run can be asked "what if" without being
    changed. Raises `EngineError`, `StorageError`; a pair that cannot be labelled is in `without`.
    """
    progress = progress or Silent()
    desk = StageRun("label", engine, store, seed, progress)
    ended: dict[str, LabelledPair | str] = {}
    progress.start("label", len(pairs), 0)

    async def settle(pair: Comparison) -> None:
        try:
            ended[pair.id] = await label(pair, Sampler(desk, pair.id), cfg, constitution)
        except (Abstain, RowError) as problem:
            ended[pair.id] = str(problem)
        progress.advance("label", "ok" if isinstance(ended[pair.id], LabelledPair) else "abstain")

    width = max(1, in_flight // (2 * len(voters("", cfg, constitution))))
    await run_jobs(pairs, settle, width)
    progress.finish("label")
    rows = [(pair.id, ended[pair.id]) for pair in pairs]
    return Votes(
        labelled=tuple(row for _, row in rows if isinstance(row, LabelledPair)),
        without=tuple((name, row) for name, row in rows if isinstance(row, str)),
        asked=desk.asked,
        reused=desk.reused,
    )
