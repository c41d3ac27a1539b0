"""Run the whole loop of one configuration: data, exports, trainers, evals, report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from constitute import clock
from constitute.blocking import block
from constitute.config import RunConfig
from constitute.data.export import export_run
from constitute.data.prompts import open_prompts
from constitute.data.records import Records
from constitute.data.reviews import reviewed_card
from constitute.engines.base import Engine
from constitute.engines.doctor import require_trainable
from constitute.engines.swap import load_folder, open_sampler, rest, rollout_engine, sampler_when_asked
from constitute.errors import GateFailed, UsageError
from constitute.evals.run import load_results
from constitute.evals.text.run import score_sets
from constitute.evals.write import check_principles, load_written, write_sets
from constitute.loop_train import TRAIN_STEPS, Figures, Step, shares_of
from constitute.packaged import model_path
from constitute.pipeline.budget import Limits
from constitute.pipeline.plan import check_settings
from constitute.pipeline.session import dated
from constitute.progress import Progress, Silent
from constitute.report.build import write_report
from constitute.runners import runner_of
from constitute.stages.verdict import label_warnings, stopped_by
from constitute.store import FILE_NAME, Store
from constitute.store.unfinished import saw_every_row
from constitute.types import Prompt
from constitute.urls import is_url

# Steps that only tell of the data.
_OF_DATA = ("data", "export", "report")
# Name of a policy -> the folder of the run that holds it, in the order in which they are measured.
POLICIES = {"sft": "sft", "ppo": "ppo", "grpo": "grpo", "dpo": "dpo", "best-of-n-sft": "best-of-n/sft"}


@dataclass
class Loop:
    """One run of the loop: what is shared by its steps, and what each step found.

    `engine` is opened at its first use and serves every policy: its weights are replaced, never its process.
    Where nothing `trains`, the data stages open their own. With `force`, labels and a reward model that say
    nothing or pass no gate are trained on all the same. `limits` bound what the data stages may spend.
    `stopped` says that the labels are not to be trained on.
    """

    config: RunConfig
    prompts: Iterable[Prompt]
    engine: Engine | None = None
    progress: Progress = field(default_factory=Silent)
    force: bool = False
    limits: Limits | None = None
    trains: bool = True
    loaded: str = "base"
    found: dict[str, Figures] = field(default_factory=dict)
    gates: list[str] = field(default_factory=list)
    stopped: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def sampler(self) -> Engine:
        """The engine, opened where it is not yet."""
        if self.engine is None:
            self.engine = _opened(self.config, self.progress)
        return self.engine

    @property
    def policies(self) -> dict[str, str]:
        """Model folders by the name of their policy, those that exist by now."""
        run = self.config.run
        trained = {
            name: str(run / folder)
            for name, folder in POLICIES.items()
            if (run / folder / "training.json").is_file()
        }
        return {"base": model_path(str(self.config.model)), **trained}

    def use(self, policy: str) -> None:
        """Bring the weights of `policy` into the engine, unless they are there."""
        if self.loaded != policy:
            load_folder(self.sampler(), self.policies[policy])
            self.loaded = policy

    def rest(self) -> None:
        """Leave the GPU to a trainer that samples nothing; `use` brings weights in again."""
        if self.engine is not None and rest(self.engine):
            self.loaded = "nothing"

    def wake(self) -> None:
        """Bring the weights that the next trainer starts from into an engine that holds none."""
        if self.loaded == "nothing":
            self.use("sft" if "sft" in self.policies else "base")

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
    until: str = "report",
) -> Iterator[Loop]:
    """A loop with its prompts read, to be run up to `until`; its engine is closed at the end.

    Raises `UsageError` for a configuration that cannot run so far, before any model is loaded.
    """
    _check(config, prompts is not None, until)
    progress = progress or Silent()
    config = _dated(config)
    if prompts is None:
        prompts = open_prompts(
            str(config.prompts), limit=config.limit, skip_bad=skip_bad, reading=config.read
        )
        for sentence in prompts.notes:
            progress.note(sentence)
    loop = Loop(config, prompts, None, progress, force, limits, _trains(config, until))
    try:
        yield loop
        if isinstance(prompts, Records):
            prompts.note_left_out(config.run)
    finally:
        if loop.engine is not None:
            block(loop.engine.close())


def steps_of(config: RunConfig, until: str) -> list[str]:
    """The steps of the configuration up to and including `until`. Raises `UsageError` for one it has not."""
    if until not in STEPS:
        raise UsageError(f"no such step: {until!r}; known: {', '.join(STEPS)}")
    train = config.train
    names = [name for name in STEPS if name not in TRAIN_STEPS or name in train.steps]
    if until not in names:
        raise UsageError(
            f"train.method is [{', '.join(train.method)}], so the run has no step {until!r}; its steps are "
            f"{', '.join(names)}: stop after one of them, or add to train.method"
        )
    return names[: names.index(until) + 1]


def run_loop(loop: Loop, until: str = "report") -> dict[str, Figures]:
    """Run the steps up to and including `until`; what an earlier run finished is kept and not done again.

    Labels that are not to be trained on are exported and reported, with that said, and nothing else follows.
    Returns each step's figures. Raises every `ConstituteError`; the same call continues after it.
    """
    names = steps_of(loop.config, until)
    if "sft" in names:
        require_trainable(str(loop.config.model))
    for name in names:
        if loop.stopped and name not in _OF_DATA:
            continue
        with loop.timed(name):
            loop.found[name] = STEPS[name].run(loop)
    return loop.found


def headline(found: Mapping[str, Figures], seconds: Mapping[str, float]) -> list[tuple[str, float, str]]:
    """(step, seconds, outcome in words) for each step that ran, in the order they ran."""
    return [(name, seconds[name], "; ".join(STEPS[name].words(figures))) for name, figures in found.items()]


def _check(config: RunConfig, prompts_given: bool, until: str) -> None:
    wanted = {"model": config.model, "constitution": config.constitution}
    if not prompts_given:
        wanted["prompts"] = config.prompts
    for key, value in wanted.items():
        if value is None:
            raise UsageError(f"the configuration names no {key}; add a line `{key}: ...` or give --{key}")
    runner_of(config.runner.on)
    check_settings(config)
    if config.shard is not None and until != "data":
        raise UsageError(
            f"shard {config.shard} holds a part of the rows; give --until data, merge the shards, and "
            "run the steps after it on the merged run"
        )
    if "evals" in steps_of(config, until):
        check_principles(config)
    if not _trains(config, until):
        return
    if is_url(str(config.model)):
        raise UsageError(
            f"the loop trains {config.model}, which is a server; set model to a local folder or Hub name, "
            "or give --until export"
        )
    from constitute.train.ppo.algorithms import find_algorithm
    from constitute.train.preference_losses import check_loss

    if "dpo" in config.train.steps:
        check_loss(config.train.dpo)
    for name in {"ppo", "grpo"} & config.train.steps:
        find_algorithm(getattr(config.train, name))


def _trains(config: RunConfig, until: str) -> bool:
    """Whether the engine that samples is to take new weights; a server that does holds them already."""
    names = list(STEPS)
    return until not in names[: names.index("sft")] or config.engine.rollout_url is not None


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
    counts = runner_of(loop.config.runner.on)(
        loop.config,
        loop.prompts,
        progress=loop.progress,
        limits=loop.limits,
        opened=loop.sampler if loop.trains else None,
    )
    with Store.open(loop.config.run, readonly=True) as store:
        card = reviewed_card(store)
    for sentence in label_warnings(card):
        loop.progress.note(f"warning: {sentence}")
    # A shard may be too small to judge its labels by; the merged run is judged.
    stopped = "" if loop.config.shard is not None else stopped_by(card, loop.config.gates)
    if stopped and loop.force:
        loop.progress.note(f"goes on by --force although {stopped}")
    elif stopped:
        loop.stopped = True
        loop.gate(GateFailed(f"{stopped}; nothing is trained on them unless --force is given"))
    return {stage: count.model_dump(mode="json") for stage, count in counts.items()}


def _data_words(figures: Figures) -> Iterator[str]:
    for stage, counts in figures.items():
        yield f"{stage}: {counts['ok']} ok, {counts['abstain']} abstain, {counts['failed']} failed"


def _export(loop: Loop) -> Figures:
    written = export_run(loop.config.run, loop.config.export, gates=loop.config.gates)
    return {part.kind: part.model_dump(mode="json") for part in written}


def _export_words(figures: Figures) -> Iterator[str]:
    for kind, part in figures.items():
        yield f"{part['rows']} {kind} rows"


def _evals(loop: Loop) -> Figures:
    """Write the configured sets with the base model and score every policy on them."""
    behaviors, principles = loop.config.evals.behaviors, loop.config.evals.principles
    if not (behaviors or principles or loop.config.evals.occupations):
        return {}
    loop.use("base")
    try:
        for one in write_sets(
            loop.config, behaviors, principles, engine=loop.sampler(), progress=loop.progress
        ):
            if one.too_few:
                loop.gate(GateFailed(one.too_few))
    except GateFailed as gate:
        # What passed is saved and scored; the command ends with the gate's exit code.
        loop.gate(gate)
    found: Figures = {part.name: {"items": len(part.items)} for part in load_written(loop.config.run)}
    if not found:
        return found
    for policy in loop.policies:
        loop.use(policy)
        try:
            engines = {"policy": loop.sampler()}
            score_sets(loop.config, policy=policy, engines=engines, progress=loop.progress)
        except GateFailed as gate:
            loop.gate(gate)
    order = list(loop.policies)
    for result in sorted(load_results(loop.config.run), key=lambda one: _rank(one.policy, order)):
        # A person may have scored other files on the same run.
        if result.set in found:
            found[result.set][result.policy] = result.model_dump(mode="json", exclude={"scores"})
    return found


def _rank(policy: str, order: Sequence[str]) -> int:
    return order.index(policy) if policy in order else len(order)


def _evals_words(figures: Figures) -> Iterator[str]:
    if not figures:
        yield "no sets: none configured (evals.behaviors, evals.principles), or none past its gate"
    for name, parts in figures.items():
        results = {policy: part for policy, part in parts.items() if policy != "items"}
        yield f"{name}: {', '.join(shares_of(results))}"


def _report(loop: Loop) -> Figures:
    return {"path": str(write_report(loop.config.run))}


def _report_words(figures: Figures) -> Iterator[str]:
    yield str(figures["path"])


STEPS = {
    "data": Step(_data, _data_words),
    "export": Step(_export, _export_words),
    **TRAIN_STEPS,
    "evals": Step(_evals, _evals_words),
    "report": Step(_report, _report_words),
}
