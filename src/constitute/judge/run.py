"""Ask a judge about the same pairs by several methods and layouts, and compare what comes of each.

The answers are kept in a run directory under the questions of the stage `label`: a comparison goes on where
it stopped, and `label --reuse` asks nothing of these pairs again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.config.data import LabelConfig
from constitute.constitution.read import load_constitution
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import GateFailed, UsageError
from constitute.files import write_json
from constitute.judge.copies import NEUTRAL, SWAPPED, example_questions, neutral_copies, swapped_copies
from constitute.judge.figures import PREFERENCE, Advice, Copied, Ended, JudgeFigures, advise, figures_of
from constitute.pipeline.labelling import check_judge, label_pairs
from constitute.pipeline.session import open_store
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Progress, Silent
from constitute.stages import stage_spec
from constitute.stages.card import EQUAL_ANSWERS
from constitute.stages.labels.candidates import candidate_config, named
from constitute.store import Store
from constitute.store.manifest import save_config, write_manifest
from constitute.types import Comparison, Constitution, LabelledPair, Outcome, Record

RESULT_FILE = "judge.json"
# Copies of each kind; 20 that are all steady have a lower bound of 84 %.
COPIES = 20


class Comparing(Record):
    """What came of comparing methods and layouts of one judge."""

    model: dict[str, Any]
    pairs: int
    judged: int
    source: str
    figures: tuple[JudgeFigures, ...]
    unable: tuple[str, ...]
    advice: Advice


@dataclass(frozen=True)
class Questions:
    """The pairs to ask about, and the constitution that votes on each; `source` says where they come from."""

    pairs: Sequence[Comparison]
    constitution: Constitution
    source: str
    voters: Mapping[str, Constitution] = field(default_factory=dict)

    def voting(self, pair_id: str) -> Constitution:
        return self.voters.get(pair_id.removesuffix(f"-{NEUTRAL}"), self.constitution)


def questions(config: RunConfig, pairs: Sequence[Comparison] | None, n: int) -> Questions:
    """`n` of the pairs, drawn by the run's seed, or the constitution's own examples where none are given."""
    if config.constitution is None:
        raise UsageError("no constitution given; name one with --constitution FILE")
    constitution = load_constitution(config.constitution, config.tags)
    if pairs is None:
        found, voters = example_questions(constitution)
        if not found:
            raise UsageError(
                f"{constitution.name} has no examples to ask a judge about; give pairs with --pairs FILE"
            )
        return Questions(found[:n], constitution, "the constitution's examples", voters)
    if len(pairs) > n:
        places = sorted(random.Random(f"{config.seed}:judge").sample(range(len(pairs)), n))
        pairs = [pairs[place] for place in places]
    return Questions(pairs, constitution, "given pairs")


def compare_methods(
    config: RunConfig,
    asked: Questions,
    tried: Sequence[tuple[str, str]],
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Comparing:
    """Compare the methods and layouts `tried` on the pairs `asked`; blocks until done.

    `config.model` is the judge, or `engine` where given, which is left open. Writes judge.json into the run.
    Raises every `ConstituteError`; the same call goes on from the answers that are there.
    """
    if engine is None:
        named_model(config.model)
    progress = progress or Silent()
    if asked.pairs and all(pair.human is None for pair in asked.pairs):
        progress.note(
            f"warning: none of the {len(asked.pairs)} pairs says which answer people prefer, so nothing will "
            f"say how good the judge is; {PREFERENCE}"
        )
    with open_store(config, progress) as store:
        found = block(_compare(config, asked, tried, store, engine, progress))
        write_manifest(store, config, asked.constitution)
    write_json(config.run / RESULT_FILE, found.model_dump(mode="json"))
    return found


async def _compare(
    config: RunConfig,
    asked: Questions,
    tried: Sequence[tuple[str, str]],
    store: Store,
    given: Engine | None,
    progress: Progress,
) -> Comparing:
    measured: list[JudgeFigures] = []
    unable: list[str] = []
    async with use_engine(config.model, config.engine, progress, given) as engine:
        save_config(config.run, config)
        for method, layout in tried:
            cfg = candidate_config(config.label, method, layout)
            name = named(method, layout)
            try:
                check_judge(cfg, engine)
                ended = await _Candidate(config, asked, cfg, layout, store, engine, progress).ended()
            except UsageError as problem:
                unable.append(f"{name}: {problem}")
                progress.note(f"{name} is left out: {problem}")
                continue
            measured.append(figures_of(ended))
        identity = engine.identity.model_dump(mode="json")
    return Comparing(
        model=identity,
        pairs=len(asked.pairs),
        judged=sum(pair.human is not None for pair in asked.pairs),
        source=asked.source,
        figures=tuple(measured),
        unable=tuple(unable),
        advice=advise(measured, unable),
    )


@dataclass
class _Candidate:
    """One method and layout at work on the pairs and their copies; `layout` is empty where it matters not."""

    config: RunConfig
    asked: Questions
    cfg: LabelConfig
    layout: str
    store: Store
    engine: Engine
    progress: Progress
    reasons: list[tuple[str, str]] = field(default_factory=list)

    async def ended(self) -> Ended:
        """Labels of the pairs and of the copies, with what they cost."""
        spec = stage_spec("label")
        run = StageRun(
            "label", self.engine, self.store, self.config.seed, self.progress, version=spec.version
        )
        start = time.monotonic()
        pairs = list(self.asked.pairs)
        labels = await self._label(run, pairs, "pairs")
        # What the pairs cost, not their copies: that is what labelling more of them will.
        requests, seconds = run.asked + run.reused, self._seconds(run.asked, time.monotonic() - start)
        problems, self.reasons = self.reasons, []
        different = [pair for pair in pairs if pair.a != pair.b][:COPIES]
        neutral = list(neutral_copies(different))
        of_neutral = await self._label(run, neutral, "neutral copies")
        of_swapped = await self._label(run, list(swapped_copies(different)), "pairs in the other order")
        copies = [Copied(kind=NEUTRAL, p_a=row.label.p_a, expected=0.5) for row in of_neutral.values()]
        copies += [
            Copied(kind=SWAPPED, p_a=row.label.p_a, expected=1.0 - labels[name].label.p_a)
            for name, row in of_swapped.items()
            if name in labels
        ]
        equal = sum(reason == EQUAL_ANSWERS for _, reason in problems)
        return Ended(
            method=self.cfg.method,
            layout=self.layout,
            labelled=tuple(labels.values()),
            abstained=sum(status == "abstain" for status, _ in problems),
            equal=equal,
            failed=sum(status == "failed" for status, _ in problems),
            copies=tuple(copies),
            longer_first=tuple(
                (len(row.comparison.a) > len(row.comparison.b), row.label.p_a) for row in of_neutral.values()
            ),
            requests=requests,
            seconds=seconds,
        )

    async def _label(self, run: StageRun, pairs: Sequence[Comparison], what: str) -> dict[str, LabelledPair]:
        """Labels by pair, in the order given, shown as `what`; why a pair has none goes to `reasons`."""
        run.shown = f"{named(self.cfg.method, self.layout)}: {what}"
        width = self.config.engine.in_flight // 2
        ended = await label_pairs(run, pairs, self.cfg, lambda pair: self.asked.voting(pair.id), width)
        self.reasons += [(row.status, row.reason or "") for row in ended if isinstance(row, Outcome)]
        return {row.id: row for row in ended if isinstance(row, LabelledPair)}

    def _seconds(self, asked: int, seconds: float) -> float:
        """Seconds that the answers took, with those of earlier runs of the same comparison."""
        key = f"judge:{self.cfg.method}:{self.layout}"
        before = self.store.meta(key)
        total = (before if isinstance(before, float) else 0.0) + (seconds if asked else 0.0)
        self.store.put_meta(key, total)
        return round(total, 3)


def require_advice(found: Comparing) -> None:
    """Raise `GateFailed` where no method or layout can be advised."""
    if found.advice.method is None:
        raise GateFailed(found.advice.sentence)
