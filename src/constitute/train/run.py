"""Train from a run directory: its exports, the models trained before, and the engine put together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitute.config import RunConfig
from constitute.data.export import exported_file
from constitute.engines import resolve_kind
from constitute.engines.base import Engine, RolloutEngine
from constitute.engines.swap import open_sampler
from constitute.errors import RowError, UsageError
from constitute.packaged import model_path
from constitute.progress import Progress, Silent, first_process, process_count
from constitute.stages.generate import conversation
from constitute.train.rewards.sources import Reward, open_rewards, used_rewards
from constitute.types import Prompt, Request

if TYPE_CHECKING:
    from constitute.train.ppo.sync import Rollouter


def run_sft(
    config: RunConfig, *, data: Path | None = None, out: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Fine-tune `config.model` on `data` (RUN/export/sft.*) into `out` (RUN/sft); returns the summary."""
    from constitute.train.sft import train_sft

    return train_sft(
        data or exported_file(config.run, "sft"),
        _model(config),
        out or config.run / "sft",
        config.train.sft,
        seed=config.seed,
        progress=progress or Silent(),
    )


def run_reward(
    config: RunConfig,
    *,
    data: Path | None = None,
    model: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a reward model from `model` (RUN/sft, else `config.model`) on `data` (RUN/export/preferences.*).

    Saves it to `out` (RUN/reward) and returns the summary.
    """
    from constitute.train.reward.run import train_reward

    return train_reward(
        data or exported_file(config.run, "preferences"),
        policy_of(config, model),
        out or config.run / "reward",
        config.train.reward,
        seed=config.seed,
        progress=progress or Silent(),
    )


def run_ppo(
    config: RunConfig,
    prompts: Sequence[Prompt],
    *,
    policy: str | None = None,
    reward: Reward | None = None,
    reference: str | None = None,
    out: Path | None = None,
    engine: Engine | None = None,
    replay: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train `policy` (RUN/sft, else `config.model`) against `reward` into `out` (RUN/ppo).

    `reward` is one source or several (see `loop.rewards`); without it `train.ppo.rewards`, else RUN/reward.
    `engine`, where given, samples the rollouts and is left open, holding the trained weights. `replay`
    names a run whose stored rollouts and prompts take the place of an engine and of `prompts`. Of several
    processes that train together the first alone samples and asks for rewards.
    """
    from constitute.train.ppo.algorithms import find_algorithm
    from constitute.train.ppo.run import train_ppo

    find_algorithm(config.train.ppo)
    name = policy_of(config, policy)
    progress = progress or Silent()
    settings = config.train.ppo.model_copy(update={"rewards": used_rewards(config, reward)})
    with (
        open_rewards(config, reward, asks=first_process()) as parts,
        _sampler(config, name, prompts, engine, replay, progress) as (sampler, kept, ids),
    ):
        return train_ppo(
            kept,
            ids,
            name,
            parts,
            out or config.run / "ppo",
            settings,
            engine=sampler,
            seed=config.seed,
            progress=progress,
            reference=model_path(reference) if reference else None,
        )


@contextmanager
def _sampler(
    config: RunConfig,
    policy: str,
    prompts: Sequence[Prompt],
    engine: Engine | None,
    replay: Path | None,
    progress: Progress,
) -> Iterator[tuple[Rollouter | None, list[Prompt], list[list[int]]]]:
    """What the rollouts come from, the prompts and their token ids; an engine opened here is closed."""
    if not first_process():
        yield None, [], []
        return
    if replay is not None:
        from constitute.train.ppo.replay import open_replay

        stored = open_replay(replay)
        yield stored, stored.prompts, stored.prompt_ids
        return
    if engine is None and process_count() > 1:
        _check_engine_beside_others(policy, config)
    used = engine or open_sampler(policy, config.engine)
    try:
        if not isinstance(used, RolloutEngine):
            raise UsageError(
                f"the engine of {policy} cannot take new weights; use a local model and set engine.kind to "
                "vllm or transformers, or engine.rollout_url to a server of `constitute serve --rollouts`"
            )
        yield used, *rendered_prompts(prompts, config.generate.system, used, progress)
    finally:
        if engine is None:
            asyncio.run(used.close())


def _check_engine_beside_others(policy: str, config: RunConfig) -> None:
    """vLLM in this process would make a process group of its own, where training needs its group."""
    if config.engine.rollout_url is None and resolve_kind(policy, config.engine.kind) == "vllm":
        raise UsageError(
            f"vLLM cannot run inside one of {process_count()} training processes; start `constitute serve "
            f"{policy} --rollouts` and set engine.rollout_url to its URL, or set engine.kind=transformers"
        )


def rendered_prompts(
    prompts: Sequence[Prompt], system: str, engine: Engine, progress: Progress
) -> tuple[list[Prompt], list[list[int]]]:
    """Token ids of each prompt as the data stages render it; prompts it refuses are left out, and told."""
    kept: list[Prompt] = []
    ids: list[list[int]] = []
    for prompt in prompts:
        try:
            found = engine.prompt_ids(Request(messages=conversation(prompt, system)))
        except RowError as problem:
            progress.note(f"prompt {prompt.id} is left out: {problem}")
            continue
        if found is None:
            raise UsageError(
                f"the engine of {engine.identity.name} does not say the prompts' token ids; set "
                "engine.tokenizer to the folder of the model it serves"
            )
        kept.append(prompt)
        ids.append(list(found))
    return kept, ids


def _model(config: RunConfig) -> str:
    if config.model is None:
        raise UsageError("no model given; name one with --model, such as --model pocket")
    if config.model.startswith(("http://", "https://")):
        raise UsageError(f"{config.model} is a server; training needs weights: a local folder or a Hub name")
    return model_path(config.model)


def policy_of(config: RunConfig, given: str | None) -> str:
    """The model named, else the run's fine-tuned one, else the model of the configuration."""
    tuned = config.run / "sft"
    if given is not None:
        return model_path(given)
    return str(tuned) if (tuned / "training.json").is_file() else _model(config)
