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
from constitute.config.data import LAYOUTS, LabelConfig
from constitute.constitution.read import load_constitution
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import Abstain, GateFailed, RowError, UsageError
from constitute.files import write_json
from constitute.judge.copies import NEUTRAL, SWAPPED, example_pairs, neutral_copies, swapped_copies
from constitute.judge.figures import Advice, Copied, Ended, JudgeFigures, advise, figures_of, named
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.session import open_store
from constitute.pipeline.stage_run import Sampler, StageRun
from constitute.progress import Progress, Silent
from constitute.registry import nearest
from constitute.stages import stage_spec
from constitute.stages.card import EQUAL_ANSWERS
from constitute.stages.labels import LABEL_METHODS, label_method
from constitute.store import Store
from constitute.store.manifest import save_config, write_manifest
from constitute.types import Comparison, Constitution, LabelledPair, Record

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


def candidates(methods: Sequence[str], layouts: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """(method, layout) of each comparison to make; every layout if none is named.

    The layout is empty where a method asks the same in each. Raises `UsageError` for an unknown name.
    """
    layouts = list(LAYOUTS) if layouts is None else layouts
    for name, known, what in (
        *((method, LABEL_METHODS, "label method") for method in methods),
        *((layout, LAYOUTS, "layout") for layout in layouts),
    ):
        if name not in known:
            raise UsageError(f"no such {what}: {name!r}; {nearest(name, known)}")
    alike = {method: len({_templates(method, layout) for layout in LAYOUTS}) == 1 for method in methods}
    return [(method, layout) for method in methods for layout in ([""] if alike[method] else layouts)]


def _templates(method: str, layout: str) -> tuple[str, ...]:
    """What a method asks with in a layout."""
    cfg = LabelConfig.model_validate({"method": method, "layout": layout})
    return label_method(method).templates(cfg)


def questions(config: RunConfig, pairs: Sequence[Comparison] | None, n: int) -> Questions:
    """`n` of the pairs, drawn by the run's seed, or the constitution's own examples where none are given."""
    if config.constitution is None:
        raise UsageError("no constitution given; name one with --constitution FILE")
    constitution = load_constitution(config.constitution, config.tags)
    if pairs is None:
        found, voters = example_pairs(constitution)
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
            cfg = config.label.model_copy(update={"method": method, **({"layout": layout} if layout else {})})
            name = named(method, layout)
            try:
                stage_spec("label").check(cfg)
                _check_abilities(cfg, engine)
                progress.note(f"asking by {name}")
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


def _check_abilities(cfg: LabelConfig, engine: Engine) -> None:
    """Raise `UsageError` where the engine cannot do what the method needs."""
    for need in stage_spec("label").needs(cfg):
        if need in engine.lacks:
            raise UsageError(f"{engine.identity.name} cannot {need}: {engine.lacks[need]}")


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
        labels = await self._label(run, pairs)
        # What the pairs cost, not their copies: that is what labelling more of them will.
        requests, seconds = run.asked + run.reused, self._seconds(run.asked, time.monotonic() - start)
        problems, self.reasons = self.reasons, []
        different = [pair for pair in pairs if pair.a != pair.b][:COPIES]
        neutral = list(neutral_copies(different))
        of_neutral = await self._label(run, neutral)
        of_swapped = await self._label(run, list(swapped_copies(different)))
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

    async def _label(self, run: StageRun, pairs: Sequence[Comparison]) -> dict[str, LabelledPair]:
        """Labels by pair, in the order given; why a pair has none goes to `reasons`."""
        work = stage_spec("label").work
        found: dict[str, LabelledPair] = {}
        self.progress.start("label", len(pairs), 0)

        async def one(pair: Comparison) -> None:
            try:
                row = await work(pair, Sampler(run, pair.id), self.cfg, self.asked.voting(pair.id))
                assert isinstance(row, LabelledPair)
                found[pair.id] = row
                status = "ok"
            except (Abstain, RowError) as problem:
                status = "abstain" if isinstance(problem, Abstain) else "failed"
                self.reasons.append((status, str(problem)))
            self.progress.advance("label", status)

        await run_jobs(pairs, one, max(1, self.config.engine.in_flight // 2))
        self.progress.finish("label")
        return {pair.id: found[pair.id] for pair in pairs if pair.id in found}

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
