"""Plan a chain of data stages: what it starts from, whether it can run, and the settings it goes on with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from constitute.config import RunConfig
from constitute.engines.base import Engine, ModelIdentity
from constitute.errors import RunMismatch, UsageError
from constitute.pipeline.cut import Mend, blames
from constitute.pipeline.shards import check_source, noted
from constitute.stages import stage_spec
from constitute.stages.base import StageSpec, settings_of, stage_settings
from constitute.stages.labels.pairs import PairSource, pair_sources
from constitute.store import Store, mended
from constitute.store.manifest import claim, goes_on, settings_noted
from constitute.types import Comparison, Constitution, Prompt

_ORDER = ("prompt", "response", "pair")


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a plan with its settings, checked; `mend` holds other ones for rows that ended badly."""

    spec: StageSpec
    settings: Any
    mend: Mend | None = None


@dataclass(frozen=True)
class Plan:
    """What a chain is to do, checked: its steps in their order, from prompts, pairs, or stored rows.

    `before` is the stage whose rows are read where neither prompts nor pairs are; `revised` the one whose
    rows are the revisions, where a pair stage alone takes both kinds of pairs. `places` are those of the
    prompts or pairs in the whole input, where they are a part of it.
    """

    config: RunConfig
    constitution: Constitution | None
    steps: dict[str, PlannedStage]
    before: str | None = None
    revised: str | None = None
    prompts: Iterable[Prompt] | None = None
    pairs: Iterable[Comparison] | None = None
    places: Sequence[int] | None = None

    @property
    def first(self) -> StageSpec:
        """The stage that the chain begins with."""
        return next(iter(self.steps.values())).spec

    @property
    def last(self) -> StageSpec:
        """The stage that the chain ends with."""
        return list(self.steps.values())[-1].spec

    @property
    def sources(self) -> tuple[PairSource, ...]:
        """Where the pairs come from that go to a pair stage; none where there is no such stage."""
        return pair_sources(self.config.label.pairs) if self.last.reads == "pair" else ()

    @property
    def samples(self) -> int:
        """How many answers a prompt gets."""
        first = next(iter(self.steps.values()))
        own = getattr(first.settings, "n", None) if first.spec.reads == "prompt" else None
        return self.config.generate.n if own is None else int(own)


def plan_chain(
    config: RunConfig,
    constitution: Constitution | None,
    stages: Sequence[str],
    store: Store,
    *,
    prompts: Iterable[Prompt] | None = None,
    pairs: Iterable[Comparison] | None = None,
    places: Sequence[int] | None = None,
) -> Plan:
    """The plan for `stages`, in the order of `config.chain`, over `prompts`, `pairs` or stored rows.

    Raises `UsageError` for a stage that does not exist or has nothing to start from, and for settings that
    cannot be met; nothing is asked of a model.
    """
    if not stages:
        raise UsageError("no stage given; name one, such as generate")
    specs = {name: stage_spec(name) for name in stages} | check_settings(config)
    _check_order(config.chain, specs)
    outside = next((name for name in stages if name not in config.chain), None)
    if outside is not None:
        raise UsageError(
            f"the stage {outside} is not in the chain ({' → '.join(config.chain)}); put it into `chain`"
        )
    asked = {
        name: PlannedStage(specs[name], settings_of(config, name, specs[name]))
        for name in config.chain
        if name in stages
    }
    for step in asked.values():
        if step.spec.needs_constitution and constitution is None:
            raise UsageError("no constitution given; name one with --constitution FILE")
    plan = Plan(config, constitution, asked, prompts=prompts, pairs=pairs, places=places)
    if plan.sources:
        _check_pairs(plan)
    if pairs is not None:
        return plan
    if plan.first.reads == "prompt":
        if prompts is None:
            raise UsageError("no prompts given; name a file with --prompts FILE")
        return plan
    before, revised = _before(config, plan, specs)
    check_source(store, config, before)
    for stage in (before, revised):
        # A shard of few prompts may have no row that ended ok, and is a part of the run all the same.
        if stage is not None and not store.counts(stage)["ok"] and noted(store, stage) is None:
            first = next(iter(asked))
            raise UsageError(
                f"{store.folder} has no rows of {stage} to {first}; run `constitute {stage}` first"
            )
    return Plan(config, constitution, asked, before, revised)


def mend_plan(plan: Plan, store: Store) -> Plan:
    """The plan with every stage's own settings, where what changed is blamed by rows that ended badly.

    Those rows are made with the changed settings, all others with those that the stage began with. A change
    that no reason blames stays, and is refused when the plan is claimed.
    """
    config, steps = plan.config, dict(plan.steps)
    for name, step in plan.steps.items():
        began = settings_noted(store, name) or {}
        before, now = began.get(name, {}), step.settings.model_dump(mode="json")
        differing = {key: now[key] for key in now.keys() & before.keys() if now[key] != before[key]}
        changed = {key: value for key, value in differing.items() if _blamed(store, name, key, value)}
        if not changed or name not in type(config).model_fields:
            continue
        own = type(step.settings).model_validate({**now, **{key: before[key] for key in changed}})
        config = config.model_copy(update={name: own})
        steps[name] = PlannedStage(step.spec, own, Mend(name, changed, step.settings))
    return replace(plan, config=config, steps=steps)


def _blamed(store: Store, stage: str, key: str, value: Any) -> bool:
    """Whether a row ended for a reason that this value helps, or one was mended with it before."""
    if any(settings.get(key) == value for settings, _, _ in mended.by_settings(store, stage)):
        return True
    reasons = (blames(stage, reason) for _, reason, _ in store.reasons(stage))
    return any(key in blamed and blamed[key](value) for blamed in reasons)


def check_settings(config: RunConfig) -> dict[str, StageSpec]:
    """The stages of `config.chain`; raises `UsageError` where the settings of one cannot be met.

    Of every stage, whichever is to run: what label refuses must not be found out after hours of generate.
    """
    specs = {name: stage_spec(name) for name in config.chain}
    for name, spec in specs.items():
        spec.check(settings_of(config, name, spec))
    return specs


def check_claims(plan: Plan, store: Store) -> None:
    """Raise `RunMismatch` where a stage began with other settings, before a model is opened.

    A stage that asks no model begins again instead: its rows follow from those before it.
    """
    for name in (name for name, step in plan.steps.items() if step.spec.asks):
        goes_on(store, name, _settings(plan, name, None), _defaults(plan, name))


def claim_chain(plan: Plan, engine: Engine, judge: Engine | None, store: Store) -> None:
    """Note each stage's settings in the store, or raise `RunMismatch` where it began with others."""
    for name, step in plan.steps.items():
        if not step.spec.asks:
            _begin_again(plan, name, store)
        identity = answering(step.spec, engine, judge).identity if step.spec.asks else None
        claim(store, name, _settings(plan, name, identity), _defaults(plan, name))


def _begin_again(plan: Plan, name: str, store: Store) -> None:
    try:
        goes_on(store, name, _settings(plan, name, None), _defaults(plan, name))
    except RunMismatch:
        store.forget(name)


def check_abilities(plan: Plan, engine: Engine, judge: Engine | None) -> None:
    """Raise `UsageError` where a stage needs what its model lacks, before anything is asked or noted."""
    for name, step in plan.steps.items():
        asked = answering(step.spec, engine, judge)
        for ability in step.spec.needs(step.settings):
            if ability in asked.lacks:
                raise UsageError(f"{name} cannot run with {asked.identity.name}: {asked.lacks[ability]}")


def _settings(plan: Plan, name: str, identity: ModelIdentity | None) -> dict[str, Any]:
    settings = stage_settings(name, plan.config, plan.constitution, identity)
    if plan.pairs is not None:
        settings[name]["pairs"] = "own"
    return settings


def _defaults(plan: Plan, name: str) -> dict[str, Any]:
    """What a stage's settings are where nobody sets them; nothing where one of them must be given."""
    try:
        return plan.steps[name].spec.settings().model_dump(mode="json")
    except ValueError:
        return {}


def answering(spec: StageSpec, engine: Engine, judge: Engine | None) -> Engine:
    """The engine that a stage asks: `judge`, where there is one, for pairs."""
    return judge if judge is not None and spec.reads == "pair" else engine


def _check_order(chain: Sequence[str], specs: dict[str, StageSpec]) -> None:
    places = [_ORDER.index(specs[name].reads) for name in chain]
    ends = places.count(0) > 1 or places.count(2) > 1
    if not chain or places != sorted(places) or ends or len(set(chain)) < len(chain):
        raise UsageError(
            f"chain: {' → '.join(chain) or 'nothing'} is no chain: at most one stage of prompts comes first, "
            "then stages of responses, then at most one of pairs, each named once"
        )


def _check_pairs(plan: Plan) -> None:
    wanted = plan.config.label.pairs
    if plan.pairs is not None:
        if len(plan.steps) > 1:
            raise UsageError("pairs of one's own are labelled alone, without generate and revise")
        return
    generates, n = plan.first.reads == "prompt", plan.samples
    revises = any(step.spec.revises for step in plan.steps.values())
    for source in plan.sources:
        if source.stands == "after" and generates and not revises:
            raise UsageError(f"label.pairs: {wanted} needs the stage revise between generate and label")
        if generates and not source.groups(n):
            raise UsageError(
                f"label.pairs: {wanted} needs two responses a prompt, n is {n}; "
                "give -n 2, or --set label.pairs=revision"
            )
        if source.stage and generates and source.stage != next(iter(plan.steps)):
            raise UsageError(
                f"label.pairs: {wanted} pairs the answers of the stage {source.stage}; begin the chain "
                f"with it, as in chain: [{source.stage}, label]"
            )
        if source.against and plan.config.label.against is None:
            raise UsageError(
                f"label.pairs: {wanted} compares with the answers of another run, and none is named; "
                "give --set label.against=RUN"
            )


def _before(config: RunConfig, plan: Plan, specs: dict[str, StageSpec]) -> tuple[str, str | None]:
    """The stage whose rows are read when responses are not generated, and that of their revisions."""
    first = next(iter(plan.steps))
    rows = list(config.chain[: config.chain.index(first)])
    revised = None
    stands = {source.stands for source in plan.sources}
    if "before" in stands and plan.first.reads == "pair":
        # Pairs of samples are taken before the first revision.
        revising = next((at for at, name in enumerate(rows) if specs[name].revises), len(rows))
        if "after" in stands and rows:
            revised = rows[-1]
        rows = rows[:revising]
    if not rows:
        raise UsageError(
            f"the chain has no stage before {first} whose rows it could read; add one to `chain`"
        )
    return rows[-1], revised
