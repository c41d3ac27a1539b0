"""Run the whole loop of one configuration: data, exports, SFT, reward model, PPO, evals, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from constitute import clock
from constitute.blocking import block
from constitute.config import RunConfig
from constitute.data.export import export_run
from constitute.data.prompts import open_prompts
from constitute.engines.base import Engine
from constitute.engines.doctor import require_trainable
from constitute.engines.swap import load_folder, open_sampler, rollout_engine, sampler_when_asked
from constitute.errors import GateFailed, UsageError
from constitute.evals.run import load_results, run_sets
from constitute.evals.write import load_written, write_sets
from constitute.packaged import model_path
from constitute.pipeline import run_stages
from constitute.pipeline.budget import Limits
from constitute.pipeline.plan import check_settings
from constitute.pipeline.session import dated
from constitute.progress import Progress, Silent
from constitute.report.build import write_report
from constitute.stages.card import card_of
from constitute.stages.verdict import label_warnings, verdict
from constitute.stats import Estimate
from constitute.store import FILE_NAME, Store
from constitute.store.unfinished import saw_every_row
from constitute.train.ppo.start import run_ppo
from constitute.train.reward.train import run_reward
from constitute.train.sft import run_sft
from constitute.types import Prompt
from constitute.urls import is_url

Figures = dict[str, Any]


@dataclass
class Loop:
    """One run of the loop: what is shared by its steps, and what each step found.

    `engine` is opened once and serves every policy: its weights are replaced, never its process. With
    `force`, labels and a reward model that say nothing are trained on all the same. `limits` bound what the
    data stages may spend.
    """

    config: RunConfig
    prompts: Iterable[Prompt]
    engine: Engine
    progress: Progress = field(default_factory=Silent)
    force: bool = False
    limits: Limits | None = None
    loaded: str = "base"
    found: dict[str, Figures] = field(default_factory=dict)
    gates: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def policies(self) -> dict[str, str]:
        """Model folders by the name of their policy, those that exist by now."""
        run = self.config.run
        trained = {name: str(run / name) for name in ("sft", "ppo") if (run / name / "config.json").is_file()}
        return {"base": model_path(str(self.config.model)), **trained}

    def use(self, policy: str) -> None:
        """Bring the weights of `policy` into the engine, unless they are there."""
        if self.loaded != policy:
            load_folder(self.engine, self.policies[policy])
            self.loaded = policy

    def gate(self, problem: GateFailed) -> None:
        """Note a quality gate that was not met; the steps after it still run."""
        self.gates.append(str(problem))
        self.progress.note(str(problem))

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the block's wall-clock seconds to `seconds[step]`."""
        start = time.monotonic()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - start, 2)


@contextmanager
def open_loop(
    config: RunConfig,
    prompts: Iterable[Prompt] | None = None,
    progress: Progress | None = None,
    skip_bad: bool = False,
    force: bool = False,
    limits: Limits | None = None,
) -> Iterator[Loop]:
    """A loop with its prompts read and its engine open; the engine is closed at the end.

    Raises `UsageError` for a configuration that cannot run the whole loop, before any model is loaded.
    """
    _check(config, prompts is not None)
    progress = progress or Silent()
    config = _dated(config)
    if prompts is None:
        prompts = open_prompts(
            str(config.prompts), limit=config.limit, skip_bad=skip_bad, reading=config.read
        )
        for sentence in prompts.notes:
            progress.note(sentence)
    loop = Loop(config, prompts, _opened(config, progress), progress, force, limits)
    try:
        yield loop
    finally:
        block(loop.engine.close())


def run_loop(loop: Loop, until: str = "report") -> dict[str, Figures]:
    """Run the steps up to and including `until`; what an earlier run finished is kept and not done again.

    Returns each step's figures. Raises every `ConstituteError`; the same call continues after it.
    """
    if until not in STEPS:
        raise UsageError(f"no such step: {until!r}; known: {', '.join(STEPS)}")
    names = list(STEPS)
    if names.index(until) >= names.index("sft"):
        require_trainable(str(loop.config.model))
    for name in names[: names.index(until) + 1]:
        with loop.timed(name):
            loop.found[name] = STEPS[name].run(loop)
    return loop.found


def headline(found: Mapping[str, Figures], seconds: Mapping[str, float]) -> list[tuple[str, float, str]]:
    """(step, seconds, outcome in words) for each step that ran, in the order they ran."""
    return [(name, seconds[name], "; ".join(STEPS[name].words(figures))) for name, figures in found.items()]


def _check(config: RunConfig, prompts_given: bool) -> None:
    wanted = {"model": config.model, "constitution": config.constitution}
    if not prompts_given:
        wanted["prompts"] = config.prompts
    for key, value in wanted.items():
        if value is None:
            raise UsageError(f"the configuration names no {key}; add a line `{key}: ...` or give --{key}")
    if is_url(str(config.model)):
        raise UsageError(
            f"the loop trains {config.model}, which is a server; set model to a local folder or Hub name, "
            "or run the data stages against the server one by one"
        )
    check_settings(config)
    from constitute.train.ppo.algorithms import find_algorithm

    find_algorithm(config.train.ppo)


def _dated(config: RunConfig) -> RunConfig:
    """The configuration with the day the run began, today where it begins now."""
    day = dated(config).engine.date or clock.today()
    return config.model_copy(update={"engine": config.engine.model_copy(update={"date": day})})


def _opened(config: RunConfig, progress: Progress) -> Engine:
    opening = sampler_when_asked if _has_all_data(config) else open_sampler
    engine = opening(str(config.model), config.engine, progress)
    rollout_engine(engine)
    return engine


def _has_all_data(config: RunConfig) -> bool:
    """Whether every data stage has run to its end, so that perhaps nothing is asked any more."""
    if not (config.run / FILE_NAME).is_file():
        return False
    with Store.open(config.run, readonly=True) as store:
        return all(saw_every_row(store, stage) for stage in config.chain)


def _data(loop: Loop) -> Figures:
    loop.use("base")
    counts = run_stages(
        loop.config,
        loop.config.chain,
        prompts=loop.prompts,
        engine=loop.engine,
        progress=loop.progress,
        limits=loop.limits,
    )
    with Store.open(loop.config.run, readonly=True) as store:
        card = card_of(store)
    for sentence in label_warnings(card):
        loop.progress.note(f"warning: {sentence}")
    found = verdict(card)
    if found is not None:
        loop.gate(GateFailed(found.sentence))
    return {stage: count.model_dump(mode="json") for stage, count in counts.items()}


def _data_words(figures: Figures) -> Iterator[str]:
    for stage, counts in figures.items():
        yield f"{stage}: {counts['ok']} ok, {counts['abstain']} abstain, {counts['failed']} failed"


def _export(loop: Loop) -> Figures:
    written = export_run(loop.config.run, loop.config.export)
    return {part.kind: part.model_dump(mode="json") for part in written}


def _export_words(figures: Figures) -> Iterator[str]:
    for kind, part in figures.items():
        yield f"{part['rows']} {kind} rows"


def _unless_refused(loop: Loop, train: Callable[[], Figures]) -> Figures:
    """What `train` returns; where it refuses what it would start from, that is noted, and later steps run."""
    try:
        return train()
    except GateFailed as gate:
        loop.gate(gate)
        return {"refused": str(gate)}


def _sft(loop: Loop) -> Figures:
    def train() -> Figures:
        return run_sft(loop.config, progress=loop.progress, force=loop.force)

    return _unless_refused(loop, train)


def _sft_words(figures: Figures) -> Iterator[str]:
    if "refused" in figures:
        yield "refused"
        return
    yield f"loss {figures['loss_first']:.3f} -> {figures['loss_last']:.3f} on {figures['rows']} rows"


def _reward(loop: Loop) -> Figures:
    def train() -> Figures:
        return run_reward(loop.config, progress=loop.progress, force=loop.force)

    found = _unless_refused(loop, train)
    if "verdict" in found and not loop.force:
        loop.gate(GateFailed(found["verdict"]))
    if "warning" in found:
        loop.progress.note(found["warning"])
    return found


def _reward_words(figures: Figures) -> Iterator[str]:
    if "refused" in figures:
        yield "refused"
        return
    accuracy = figures["held_out"].get("accuracy")
    yield f"held-out accuracy {_text(accuracy)}" if accuracy else "no held-out pairs to measure on"


def _ppo(loop: Loop) -> Figures:
    if "refused" in loop.found.get("reward", {}) and not loop.config.train.ppo.rewards:
        return {"refused": "there is no reward model"}
    loop.loaded = "in training"

    def train() -> Figures:
        return run_ppo(
            loop.config, list(loop.prompts), engine=loop.engine, progress=loop.progress, force=loop.force
        )

    return _unless_refused(loop, train)


def _ppo_words(figures: Figures) -> Iterator[str]:
    if "refused" in figures:
        yield "refused"
        return
    before, after = _text(figures["reward_before"]), _text(figures["reward_after"])
    yield f"reward {before} -> {after}, KL {figures['kl']:.2f} nats"


def _evals(loop: Loop) -> Figures:
    """Write the configured sets with the base model and score every policy on them."""
    behaviors, principles = loop.config.evals.behaviors, loop.config.evals.principles
    if not behaviors and not principles:
        return {}
    loop.use("base")
    try:
        write_sets(loop.config, behaviors, principles, engine=loop.engine, progress=loop.progress)
    except GateFailed as gate:
        # What passed is saved and scored; the command ends with the gate's exit code.
        loop.gate(gate)
    found: Figures = {part.name: {"items": len(part.items)} for part in load_written(loop.config.run)}
    if not found:
        return found
    for policy in loop.policies:
        loop.use(policy)
        try:
            run_sets(loop.config, policy=policy, engine=loop.engine, progress=loop.progress)
        except GateFailed as gate:
            loop.gate(gate)
    for result in load_results(loop.config.run):
        # A person may have scored other files on the same run.
        if result.set in found:
            found[result.set][result.policy] = result.model_dump(mode="json", exclude={"scores"})
    return found


def _evals_words(figures: Figures) -> Iterator[str]:
    if not figures:
        yield "no sets: none configured (evals.behaviors, evals.principles), or none past its gate"
    for name, parts in figures.items():
        shares = [f"{policy} {_text(part['share'])}" for policy, part in parts.items() if policy != "items"]
        yield f"{name}: {', '.join(shares)}"


def _report(loop: Loop) -> Figures:
    return {"path": str(write_report(loop.config.run))}


def _report_words(figures: Figures) -> Iterator[str]:
    yield str(figures["path"])


def _text(figure: Mapping[str, Any]) -> str:
    return Estimate.model_validate(figure).text(2)


@dataclass(frozen=True)
class Step:
    """One step of the loop: `run` does it and returns its figures, `words` says them for a person."""

    run: Callable[[Loop], Figures]
    words: Callable[[Figures], Iterator[str]]


STEPS = {
    "data": Step(_data, _data_words),
    "export": Step(_export, _export_words),
    "sft": Step(_sft, _sft_words),
    "reward": Step(_reward, _reward_words),
    "ppo": Step(_ppo, _ppo_words),
    "evals": Step(_evals, _evals_words),
    "report": Step(_report, _report_words),
}
