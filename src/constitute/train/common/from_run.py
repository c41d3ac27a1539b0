"""What training takes from a run and leaves there: models, an engine that samples, prompts, settings."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from constitute import clock
from constitute.blocking import block
from constitute.config import EngineConfig, RunConfig, load_config
from constitute.config.train import Footprint
from constitute.engines import named_model
from constitute.engines.base import Engine, RolloutEngine
from constitute.engines.swap import open_sampler, rollout_engine, sampler_when_asked, server_prompts
from constitute.errors import ConstituteError, RowError, UsageError
from constitute.files import read_json, write_json
from constitute.packaged import model_path
from constitute.pipeline.session import dated
from constitute.progress import Progress, first_process
from constitute.stages.generate import conversation
from constitute.store.manifest import CONFIG_FILE, save_config
from constitute.train.common.artefact import unfinished
from constitute.types import Prompt, Request
from constitute.urls import is_url

# What a training folder keeps of rendering beside its recipe.
_RENDERING = "rendering.json"
PromptIds = Callable[[Request], tuple[int, ...]]


def trainable_model(config: RunConfig) -> str:
    """The model of the configuration as a folder or Hub name; raises `UsageError` for a server or none."""
    model = named_model(config.model)
    if is_url(model):
        raise UsageError(f"{model} is a server; training needs weights: a local folder or a Hub name")
    return model_path(model)


def policy_of(config: RunConfig, given: str | None) -> str:
    """The model `given`, else the run's fine-tuned one, else the model of the configuration.

    Raises `UsageError` for a fine-tuning that stopped before its end: nobody meant the model before it.
    """
    if given is not None:
        return model_path(given)
    tuned = config.run / "sft"
    if (tuned / "training.json").is_file():
        return str(tuned)
    if unfinished(tuned):
        raise UsageError(
            f"the fine-tuning in {tuned} is not finished (checkpoints, no model); finish it with the "
            f"command that began it, `constitute train sft --run {shlex.quote(str(config.run))}` with its "
            "options, or name the model to start from with --model"
            + (f", such as --model {config.model}" if config.model else "")
        )
    return trainable_model(config)


def on_its_day(config: RunConfig, out: Path) -> RunConfig:
    """The configuration with the day that chat templates are told in the training of `out`.

    It is the configuration's, else the run's, else the one that `out` began on, which is kept there.
    """
    config = dated(config)
    if config.engine.date is not None:
        return config
    file = out / _RENDERING
    if file.is_file():
        day = str(read_json(file)["date"])
    else:
        day = clock.today()
        if first_process():
            out.mkdir(parents=True, exist_ok=True)
            write_json(file, {"date": day})
    return config.model_copy(update={"engine": config.engine.model_copy(update={"date": day})})


@contextmanager
def on_one_day(config: RunConfig, out: Path) -> Iterator[RunConfig]:
    """Yield the configuration as `on_its_day` gives it; a start that is refused leaves no folder of its own.

    The day is kept from the beginning, for what is written next, such as a checkpoint, depends on it; a
    training that is killed goes on with it.
    """
    had = out.is_dir()
    try:
        yield on_its_day(config, out)
    except ConstituteError:
        if first_process() and out.is_dir() and [file.name for file in out.iterdir()] == [_RENDERING]:
            (out / _RENDERING).unlink()
            if not had:
                out.rmdir()
        raise


def keep_settings(config: RunConfig, section: str) -> None:
    """Write `train.<section>` into the run's own configuration, from which later commands on it start.

    So are the settings that hold for all trainers.
    """
    path = config.run / CONFIG_FILE
    if not path.is_file() or not first_process():
        return
    own = load_config(path)
    names = (section, *Footprint.model_fields)
    train = own.train.model_copy(update={name: getattr(config.train, name) for name in names})
    save_config(config.run, own.model_copy(update={"train": train}))


@contextmanager
def sampling_engine(
    config: RunConfig,
    policy: str,
    given: Engine | None,
    progress: Progress,
    opening: Callable[[str, EngineConfig, Progress], Engine] = open_sampler,
) -> Iterator[RolloutEngine]:
    """Yield `given` and leave it open; without it, open what samples for `policy` and close it afterwards.

    Raises `UsageError` for an engine that takes no token ids and no new weights.
    """
    engine = given or opening(policy, config.engine, progress)
    try:
        yield rollout_engine(engine)
    finally:
        if given is None:
            block(engine.close())


@contextmanager
def unopened_engine(
    config: RunConfig, policy: str, given: Engine | None, progress: Progress
) -> Iterator[tuple[PromptIds, Callable[[], RolloutEngine]]]:
    """Yield what renders prompts, which takes a tokenizer alone, and what opens the engine that samples.

    Raises as `sampling_engine` does, some of it only when the engine is opened.
    """
    from constitute.engines.deferred import DeferredRollout

    if given is None and config.engine.rollout_url is not None:
        with ExitStack() as closing:
            server = sampling_engine(config, policy, None, progress)
            yield server_prompts(policy, config.engine), lambda: closing.enter_context(server)
        return
    with sampling_engine(config, policy, given, progress, sampler_when_asked) as engine:
        if isinstance(engine, DeferredRollout):
            yield ids_by(engine), engine.opened
        else:
            yield ids_by(engine), lambda: engine


def ids_by(engine: Engine) -> PromptIds:
    """What renders prompts as `engine` does; it raises `UsageError` where the engine says no token ids."""

    def ids(request: Request) -> tuple[int, ...]:
        found = engine.prompt_ids(request)
        if found is None:
            raise UsageError(
                f"the engine of {engine.identity.name} does not say the prompts' token ids; set "
                "engine.tokenizer to the folder of the model it serves"
            )
        return found

    return ids


def rendered_prompts(
    prompts: Sequence[Prompt], system: str, engine: Engine, progress: Progress
) -> tuple[list[Prompt], list[list[int]]]:
    """Token ids of each prompt as the data stages render it; a note names each prompt that is left out."""
    return prompts_by(ids_by(engine), prompts, system, progress)


def prompts_by(
    ids_of: PromptIds, prompts: Sequence[Prompt], system: str, progress: Progress
) -> tuple[list[Prompt], list[list[int]]]:
    """As `rendered_prompts`, by what `ids_by` gives."""
    kept: list[Prompt] = []
    ids: list[list[int]] = []
    for prompt in prompts:
        try:
            found = ids_of(Request(messages=conversation(prompt, system)))
        except RowError as problem:
            progress.note(f"prompt {prompt.id} is left out: {problem}")
            continue
        kept.append(prompt)
        ids.append(list(found))
    return kept, ids
