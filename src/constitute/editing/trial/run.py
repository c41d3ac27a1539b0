"""Ask a judge about a constitution's own examples, each under its principle alone, by several methods.

The answers are kept as those of the stage `label`: after an edit, only questions that changed are asked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.constitution.examples import ExamplePair, alone, example_pairs
from constitute.constitution.identity import constitution_hash
from constitute.constitution.show import pick
from constitute.editing.trial import known
from constitute.editing.trial.figures import (
    Cost,
    ExampleTest,
    TrialResult,
    example_test,
    overall,
    tallies,
)
from constitute.engines import named_model, open_when_asked, use_engine
from constitute.engines.base import Engine, ModelIdentity
from constitute.errors import GateFailed, UsageError
from constitute.pipeline.labelling import check_judge, label_pairs
from constitute.pipeline.session import dated, open_store
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Progress, Silent
from constitute.stages.card import label_card
from constitute.stages.labels.candidates import candidate_config, candidates, named
from constitute.stages.verdict import verdict
from constitute.store import Store
from constitute.types import Ability, Choice, Completion, Constitution, LabelledPair, Outcome, Request, Score


def try_constitution(
    config: RunConfig,
    constitution: Constitution,
    *,
    model: str | None = None,
    methods: Sequence[str] | None = None,
    layouts: Sequence[str] | None = None,
    ids: Sequence[str] = (),
    min_margin: float = 0.0,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> TrialResult:
    """Ask about the examples of the principles `ids`, or of all; blocks until done.

    `engine`, else `model`, else the judge or the model of `config`, answers what the store at `config.run`
    does not. `methods` and `layouts` are those of `config.label` where None. Raises `UsageError` where there
    is nothing to ask, or a method that this judge cannot be asked by; `EngineError`, `StorageError`.
    """
    tried = candidates(methods or [config.label.method], layouts or [config.label.layout])
    asked = list(example_pairs(pick(constitution, ids)))
    if not asked:
        whose = "the principles named have" if ids else f"{constitution.name} has"
        raise UsageError(
            f"{whose} no examples to test; write some, or have them drafted with constitution examples"
        )
    judge = model or config.judge or config.model
    if engine is None:
        named_model(judge)
    progress = progress or Silent()
    # The answers of another run were copied when this one was made.
    with open_store(config.model_copy(update={"reuse": None}), progress) as store:
        work = _Work(config, pick(constitution, ids), asked, tried, min_margin, store, progress)
        return block(work.run(judge, engine))


def require_passed(result: TrialResult) -> None:
    """Raise `GateFailed` where an example but a draft does not pass."""
    failing = result.failing
    if failing:
        tests = sum(not test.draft for test in result.tests)
        names = list(dict.fromkeys(test.principle for test in failing))
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise GateFailed(
            f"{len(failing)} of {tests} tests fail, under {some}: mend the principle or its example, or give "
            "a judge that can tell them apart"
        )


class _Work:
    """One constitution under test."""

    def __init__(
        self,
        config: RunConfig,
        constitution: Constitution,
        asked: Sequence[ExamplePair],
        tried: Sequence[tuple[str, str]],
        min_margin: float,
        store: Store,
        progress: Progress,
    ) -> None:
        self._config, self._constitution, self._asked, self._tried = config, constitution, asked, tried
        self._min_margin, self._store, self._progress = min_margin, store, progress
        self._principles = {each.pair.id: each.principle for each in asked}

    async def run(self, judge: str | None, given: Engine | None) -> TrialResult:
        """Open the judge, ask by each method, and keep what came of it."""
        config = self._config
        tests: list[ExampleTest] = []
        found: dict[str, dict[str, float]] = {}
        names: dict[str, str] = {}
        verdicts: dict[str, str] = {}
        count = [0, 0]
        start = time.monotonic()
        async with use_engine(judge, dated(config).engine, self._progress, given, open_when_asked) as engine:
            counted = _Counted(engine)
            configs = {
                named(method, layout): known.one_vote(candidate_config(config.label, method, layout))
                for method, layout in self._tried
            }
            for cfg in configs.values():
                check_judge(cfg, engine)
            for name, cfg in configs.items():
                self._progress.note(
                    f"asking {engine.identity.name} about {len(self._asked)} examples by {name}"
                )
                run = StageRun("label", counted, self._store, config.seed, self._progress)
                rows = await label_pairs(
                    run,
                    [each.pair for each in self._asked],
                    cfg,
                    lambda pair: alone(self._constitution, self._principles[pair.id]),
                    config.engine.in_flight // 2,
                )
                by_method = [
                    example_test(each, name, row, self._min_margin)
                    for each, row in zip(self._asked, rows, strict=True)
                ]
                tests += by_method
                names[name] = known.made_by(engine.identity, cfg, config.seed)
                found[names[name]] = {
                    known.question_key(each, cfg): test.p_better
                    for each, test in zip(self._asked, by_method, strict=True)
                    if test.p_better is not None
                }
                verdicts[name] = _seen(rows)
                count = [count[0] + run.asked, count[1] + run.reused]
            cost = Cost(
                asked=count[0],
                cached=count[1],
                prompt_tokens=counted.prompt_tokens,
                seconds=round(time.monotonic() - start, 3),
            )
            result = self._result(tests, names, verdicts, engine.identity, cost)
        known.keep(self._store, result, found)
        return result

    def _result(
        self,
        tests: list[ExampleTest],
        names: dict[str, str],
        verdicts: dict[str, str],
        identity: ModelIdentity,
        cost: Cost,
    ) -> TrialResult:
        place = {p.id: at for at, p in enumerate(self._constitution.principles)}
        tests.sort(key=lambda test: (place[test.principle], list(names).index(test.method), test.number))
        tested = {test.principle for test in tests if not test.draft}
        return TrialResult(
            name=self._constitution.name,
            hash=constitution_hash(self._constitution),
            model=identity.model_dump(mode="json"),
            made_by=names,
            min_margin=self._min_margin,
            tests=tuple(tests),
            tallies=tallies(tests),
            overall=overall(tests, verdicts, self._config.seed),
            untested=tuple(p.id for p in self._constitution.principles if p.id not in tested),
            cost=cost,
        )


def _seen(rows: Sequence[LabelledPair | Outcome]) -> str:
    """What shows that these labels say nothing of the answers; empty where nothing does."""
    without = Counter(row.status for row in rows if isinstance(row, Outcome))
    labelled = [row for row in rows if isinstance(row, LabelledPair)]
    found = verdict(label_card(labelled, without["abstain"], without["failed"]))
    return "" if found is None else found.seen


class _Counted:
    """An engine that counts the prompt tokens of what it is asked. Implements `Engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.identity = engine.identity
        self.prompt_tokens: int | None = 0

    @property
    def context_length(self) -> int | None:
        return self._engine.context_length

    @property
    def lacks(self) -> Mapping[Ability, str]:
        return self._engine.lacks

    def prompt_ids(self, request: Request) -> tuple[int, ...] | None:
        return self._engine.prompt_ids(request)

    def rendered(self, request: Request) -> bytes:
        return self._engine.rendered(request)

    async def generate(self, request: Request) -> Completion:
        answer = await self._engine.generate(request)
        self._count(request)
        return answer

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        answer = await self._engine.choose(request, labels, spelled=spelled)
        self._count(request)
        return answer

    async def score(self, request: Request, text: str) -> Score:
        answer = await self._engine.score(request, text)
        self._count(request, len(answer.token_ids))
        return answer

    async def close(self) -> None:
        await self._engine.close()

    def _count(self, request: Request, more: int = 0) -> None:
        ids = self._engine.prompt_ids(request)
        unknown = ids is None or self.prompt_tokens is None
        self.prompt_tokens = None if unknown else (self.prompt_tokens or 0) + len(ids or ()) + more
