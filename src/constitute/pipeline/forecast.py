"""What a chain of data stages would ask, before it is run: the stages run on placeholders for answers.

Questions are counted as they would be asked, by the stages' own code, so the count is exact wherever no row
fails or abstains; rows that ended and answers that are stored are not asked again. Tokens of prompts that
hold an answer to come are those of the longest answer allowed, unless a probe told how long answers are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.constitution.read import load_constitution
from constitute.engines import named_model, open_engine
from constitute.engines.dry import DryEngine, Model, model_of
from constitute.pipeline.chain import run_chain
from constitute.pipeline.plan import Plan, check_claims, plan_chain
from constitute.pipeline.session import dated, run_stages
from constitute.pipeline.shards import cut
from constitute.progress import Progress, Silent
from constitute.stages import stage_spec
from constitute.store import FILE_NAME, Store
from constitute.types import Prompt, Record

# Prompts that are looked at; of more, as many at equal distances stand for all.
_MOST = 2000


class StageForecast(Record):
    """What one stage would ask.

    `done` rows ended before. `cached` questions have a stored answer. `requests` are left to ask, with
    `prompt_tokens` and `answer_tokens` in all.
    """

    stage: str
    rows: int
    done: int
    requests: int
    cached: int
    prompt_tokens: int
    answer_tokens: int


class Forecast(Record):
    """What a chain would ask. `sampled` of the `prompts` were looked at.

    `tokenizer`: tokens were counted by the model's own, not guessed from characters. `identified`: the model
    is known well enough to find stored answers; else only rows that ended are known to be there. After a
    probe of `probed` rows, `answer_length` is the mean tokens of an answer, and `seconds` the time that the
    requests take at the probe's pace, which more requests at once only shorten. With `label.adaptive`, the
    requests are those where the first principles never agree, and `least_requests` where they always do.
    """

    prompts: int
    sampled: int
    stages: tuple[StageForecast, ...]
    tokenizer: bool
    identified: bool
    probed: int = 0
    answer_length: float | None = None
    seconds: float | None = None
    least_requests: int | None = None

    def total(self, figure: str) -> int:
        """The sum of a figure over the stages."""
        return sum(int(getattr(stage, figure)) for stage in self.stages)

    def price(self, per_million_in: float, per_million_out: float) -> float:
        """The price of the tokens, in the currency of the two prices."""
        tokens = self.total("prompt_tokens") * per_million_in + self.total("answer_tokens") * per_million_out
        return tokens / 1e6


def forecast(
    config: RunConfig, prompts: Sequence[Prompt], *, probe: int = 0, progress: Progress | None = None
) -> Forecast:
    """What the data stages of `config.chain` would ask for `prompts`; with `probe`, that many are run first.

    With `config.shard`, `prompts` are those of all shards, and one shard's are counted. The run directory is
    read and never written. Raises what `run_stages` raises before a model is loaded,
    and with a probe also what it raises after.
    """
    progress = progress or Silent()
    named_model(config.model)
    config = dated(config)
    if config.shard is not None:
        prompts = cut(config, prompts).rows
        config = config.model_copy(update={"shard": None, "limit": None})
    exists = (config.run / FILE_NAME).is_file()
    length, seconds_each = None, None
    if probe:
        length, seconds_each = _probed(config, prompts[:probe], progress)
    step = -(-len(prompts) // _MOST) or 1
    looked = list(prompts[::step])
    with TemporaryDirectory(prefix="constitute-") as folder:
        found, models = _dry(config, looked, Path(folder), exists, length)
    least = _least(config, looked, exists)
    scale = len(prompts) / max(1, len(looked))
    stages = tuple(_scaled(stage, scale) for stage in found)
    asked = sum(stage.requests for stage in stages)
    return Forecast(
        prompts=len(prompts),
        sampled=len(looked),
        stages=stages,
        tokenizer=all(model.renderer is not None for model in models),
        identified=all(model.known for model in models) or not (exists or config.reuse),
        probed=min(probe, len(prompts)),
        answer_length=length,
        least_requests=None if least is None else round(least * scale),
        seconds=None if seconds_each is None else round(seconds_each * asked, 1),
    )


def _least(config: RunConfig, prompts: Sequence[Prompt], exists: bool) -> int | None:
    """Requests where the principles that are asked first agree on every pair; None without such."""
    if config.label.adaptive is None:
        return None
    few = {"principles": config.label.adaptive, "adaptive": None}
    label = config.label.model_copy(update=few)
    with TemporaryDirectory(prefix="constitute-") as folder:
        only = config.model_copy(update={"label": label})
        found, _ = _dry(only, prompts, Path(folder), exists, None, claimed=False)
    return sum(stage.requests for stage in found)


def _dry(
    config: RunConfig,
    prompts: Sequence[Prompt],
    folder: Path,
    exists: bool,
    length: float | None,
    *,
    claimed: bool = True,
) -> tuple[list[StageForecast], list[Model]]:
    """Run the chain on placeholders in a directory of its own that knows what the run knows."""
    constitution = load_constitution(config.constitution, config.tags) if config.constitution else None
    source = config.run if exists else config.reuse
    with ExitStack() as opened:
        if exists and claimed:
            real = opened.enter_context(Store.open(config.run, readonly=True))
            check_claims(plan_chain(config, constitution, config.chain, real, prompts=prompts), real)
        store = opened.enter_context(Store.open(folder / "run"))
        if source is not None:
            store.reuse(source)
        if exists:
            store.take_outcomes()
        plan = plan_chain(config, constitution, config.chain, store, prompts=prompts)
        done = {stage: _done(store, stage) for stage in plan.steps}
        names = _models(config, plan)
        models = {
            name: model_of(name, config.engine, identify=source is not None) for name in set(names.values())
        }
        tokens = None if length is None else round(length)
        engines = {stage: DryEngine(models[name], tokens) for stage, name in names.items()}
        first = next(iter(engines.values()))
        counts = block(run_chain(plan, first, store, by_stage=engines))
        found = [
            StageForecast(
                stage=stage,
                rows=count.total,
                done=min(done[stage], count.resumed),
                requests=count.asked,
                cached=count.reused,
                prompt_tokens=engines[stage].prompt_tokens,
                answer_tokens=engines[stage].answer_tokens,
            )
            for stage, count in counts.items()
        ]
        return found, list(models.values())


def _models(config: RunConfig, plan: Plan) -> Mapping[str, str]:
    """The model that each stage asks."""
    model = named_model(config.model)
    return {
        name: config.judge if config.judge is not None and step.spec.reads == "pair" else model
        for name, step in plan.steps.items()
    }


def _done(store: Store, stage: str) -> int:
    return sum(store.counts(stage).values())


def _probed(
    config: RunConfig, prompts: Sequence[Prompt], progress: Progress
) -> tuple[float | None, float | None]:
    """Mean tokens of an answer and seconds of a request, of a run of some prompts that is thrown away."""
    with TemporaryDirectory(prefix="constitute-") as folder:
        own = config.model_copy(update={"run": Path(folder) / "run", "reuse": None, "limit": None})
        return _timed(own, prompts, progress)


def _timed(
    config: RunConfig, prompts: Sequence[Prompt], progress: Progress
) -> tuple[float | None, float | None]:
    """Mean tokens of an answer and seconds of a request, without the time in which models are opened."""
    judged = [name for name in config.chain if config.judge and stage_spec(name).reads == "pair"]
    parts = [(config.model, [name for name in config.chain if name not in judged]), (config.judge, judged)]
    asked, seconds = 0, 0.0
    for model, stages in parts:
        if not stages:
            continue
        engine = open_engine(named_model(model), config.engine, progress)
        try:
            start = time.monotonic()
            counts = run_stages(config, stages, prompts=prompts, engine=engine, progress=progress)
            seconds += time.monotonic() - start
        finally:
            block(engine.close())
        asked += sum(count.asked for count in counts.values())
    with Store.open(config.run, readonly=True) as store:
        length = store.mean_answer_tokens()
    return length, seconds / asked if asked else None


def _scaled(stage: StageForecast, scale: float) -> StageForecast:
    figures = {name: round(value * scale) for name, value in stage if name != "stage"}
    return stage.model_copy(update=figures)
