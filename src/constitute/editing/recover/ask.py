"""Ask for the vote of every principle on every pair, each by itself: a missing one loses no other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from constitute.config import LabelConfig, RunConfig
from constitute.editing.votes import ByWording, wording_of
from constitute.engines.base import Engine
from constitute.errors import Abstain, RowError, UsageError
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.labelling import check_judge
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Progress
from constitute.stages import stage_spec
from constitute.stages.labels.adaptive import asking_all
from constitute.stages.labels.base import together
from constitute.stages.labels.stage import label
from constitute.store import Store
from constitute.types import Comparison, Constitution, LabelledPair, Principle

# (pair id, principle id) -> P(A), None where there is no vote.
ByPrinciple = dict[tuple[str, str], float | None]


@dataclass
class Asking:
    """What asking takes: the engine, the store that keeps its answers, and what came of it so far.

    `stored` votes came from a run's rows; `asked` and `reused` count questions, `reasons` missing votes.
    """

    config: RunConfig
    engine: Engine
    store: Store
    progress: Progress
    known: ByWording = field(default_factory=dict)
    stored: int = 0
    asked: int = 0
    reused: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def cfg(self) -> LabelConfig:
        """The settings of labels; a vote that stands alone is the label, whatever the rule."""
        return asking_all(self.config.label).model_copy(update={"rule": "mean"})

    def check(self) -> None:
        """Raise `UsageError` for settings of labels that cannot be, or that the engine cannot meet."""
        check_judge(self.cfg, self.engine)

    async def votes(self, pairs: Sequence[Comparison], principles: Sequence[Principle]) -> ByPrinciple:
        """P(A) by pair and principle: all principles of a pair together, as they may share what they show."""
        cfg = self.cfg
        alone = {p.id: _alone(p) for p in principles}
        run = StageRun(
            "label",
            self.engine,
            self.store,
            self.config.seed,
            self.progress,
            version=stage_spec("label").version,
        )
        found: ByPrinciple = {}
        start = time.monotonic()

        async def one(pair: Comparison) -> None:
            votes = await together([self._vote(pair, alone[p.id], run, cfg) for p in principles])
            found.update({(pair.id, p.id): vote for p, vote in zip(principles, votes, strict=True)})
            self.progress.advance("label", "ok" if any(vote is not None for vote in votes) else "abstain")

        self.progress.start("label", len(pairs))
        await run_jobs(pairs, one, max(1, self.config.engine.in_flight // (2 * len(principles))))
        self.progress.finish("label")
        self.seconds += time.monotonic() - start
        self.asked += run.asked
        self.reused += run.reused
        return found

    async def _vote(
        self, pair: Comparison, alone: Constitution, run: StageRun, cfg: LabelConfig
    ) -> float | None:
        known = self.known.get((pair.id, wording_of(alone.principles[0], cfg)))
        if known is not None and not isinstance(known, str):
            self.stored += 1
            return known.p_a
        try:
            row = await label(pair, Sampler(run, pair.id), cfg, alone)
        except (Abstain, RowError) as problem:
            self.reasons[str(problem)] += 1
            return None
        assert isinstance(row, LabelledPair)
        return row.label.p_a


def _alone(principle: Principle) -> Constitution:
    plain = principle.model_copy(update={"weight": 1.0, "priority": ""})
    return Constitution(name=principle.id, principles=(plain,))


def require_votes(votes: ByPrinciple, reasons: Counter[str]) -> None:
    """Raise `UsageError` where there is not a single vote, with the commonest reason."""
    if any(vote is not None for vote in votes.values()):
        return
    why, count = reasons.most_common(1)[0] if reasons else ("no reason given", len(votes))
    raise UsageError(
        f"the judge gave no vote on any pair ({count} of {len(votes)}: {why}); try another --method, or see "
        "`constitute judge --pairs`"
    )


def voting(constitution: Constitution) -> list[Principle]:
    """The principles that vote: those of weight 0 are switched off."""
    return [principle for principle in constitution.principles if principle.weight > 0]
