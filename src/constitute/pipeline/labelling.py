"""Label given pairs by the questions of the stage `label`, outside of a run's rows.

Answers are kept in the store as the stage keeps them; outcomes are returned and not written, so a run can be
asked "what if" without being changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from constitute.config import LabelConfig
from constitute.engines.base import Engine
from constitute.errors import Abstain, RowError, UsageError
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.stage_run import StageRun
from constitute.stages import stage_spec
from constitute.stages.labels.stage import label
from constitute.types import Comparison, Constitution, LabelledPair, Outcome, Status


def check_judge(cfg: LabelConfig, engine: Engine) -> None:
    """Raise `UsageError` for settings that contradict each other, or an engine that lacks what they need."""
    spec = stage_spec("label")
    spec.check(cfg)
    for need in spec.needs(cfg):
        if need in engine.lacks:
            raise UsageError(f"{engine.identity.name} cannot {need}: {engine.lacks[need]}")


async def label_pairs(
    run: StageRun,
    pairs: Sequence[Comparison],
    cfg: LabelConfig,
    voting: Callable[[Comparison], Constitution],
    width: int,
) -> list[LabelledPair | Outcome]:
    """Each pair's label, or how it ended without one, in the order given; `width` pairs at a time.

    `voting` says which constitution votes on a pair. Raises `EngineError`, `StorageError`.
    """
    ended: dict[int, LabelledPair | Outcome] = {}
    shown = run.shown or run.stage
    run.progress.start(shown, len(pairs), 0)

    async def one(place: int) -> None:
        pair = pairs[place]
        status: Status = "ok"
        try:
            ended[place] = await label(pair, Sampler(run, pair.id), cfg, voting(pair))
        except (Abstain, RowError) as problem:
            status = "abstain" if isinstance(problem, Abstain) else "failed"
            ended[place] = Outcome(row_id=pair.id, position=place, status=status, reason=str(problem))
        run.progress.advance(shown, status)

    await run_jobs(range(len(pairs)), one, max(1, width))
    run.progress.finish(shown)
    return [ended[place] for place in range(len(pairs))]
