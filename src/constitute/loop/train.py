"""Train from a run directory: its exports, the models trained before, and the engine put together."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.engines import open_engine
from constitute.engines.base import Engine, RolloutEngine
from constitute.errors import RowError, UsageError
from constitute.packaged import model_path
from constitute.progress import Progress, Silent
from constitute.stages.generate import conversation
from constitute.types import Completion, Prompt, Request

Reward = str | Callable[[Sequence[Prompt], Sequence[Completion]], Sequence[float]]


def run_sft(
    config: RunConfig, *, data: Path | None = None, out: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Fine-tune `config.model` on `data` (RUN/export/sft.*) into `out` (RUN/sft); returns the summary."""
    from constitute.train.sft import train_sft

    return train_sft(
        data or _exported(config.run, "sft"),
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
    from constitute.train.reward import train_reward

    return train_reward(
        data or _exported(config.run, "preferences"),
        _policy(config, model),
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
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train `policy` (RUN/sft, else `config.model`) against `reward` (RUN/reward) into `out` (RUN/ppo).

    `engine`, where given, samples the rollouts and is left open, holding the trained weights.
    """
    from constitute.train.ppo import train_ppo

    name = _policy(config, policy)
    chosen = reward or str(config.run / "reward")
    if isinstance(chosen, str):
        chosen = model_path(chosen)
        if reward is None and not Path(chosen).is_dir():
            raise UsageError(
                f"no reward model in {chosen}; run `constitute train reward` first or give --reward-model"
            )
    progress = progress or Silent()
    used = engine or open_engine(name, config.engine)
    try:
        if not isinstance(used, RolloutEngine):
            raise UsageError(
                f"the engine of {name} cannot take new weights; use a local model and set engine.kind to "
                "vllm or transformers"
            )
        kept, ids = _rendered(prompts, config.generate.system, used, progress)
        return train_ppo(
            kept,
            ids,
            name,
            chosen,
            out or config.run / "ppo",
            config.train.ppo,
            engine=used,
            seed=config.seed,
            progress=progress,
            reference=model_path(reference) if reference else None,
        )
    finally:
        if engine is None:
            asyncio.run(used.close())


def _rendered(
    prompts: Sequence[Prompt], system: str, engine: Engine, progress: Progress
) -> tuple[list[Prompt], list[list[int]]]:
    """Token ids of each prompt as the data stages render it; prompts it refuses are left out, and told."""
    kept: list[Prompt] = []
    ids: list[list[int]] = []
    for prompt in prompts:
        try:
            words = array("I", engine.rendered(Request(messages=conversation(prompt, system))))
        except RowError as problem:
            progress.note(f"prompt {prompt.id} is left out: {problem}")
            continue
        kept.append(prompt)
        ids.append(list(words))
    return kept, ids


def _model(config: RunConfig) -> str:
    if config.model is None:
        raise UsageError("no model given; name one with --model, such as --model pocket")
    if config.model.startswith(("http://", "https://")):
        raise UsageError(f"{config.model} is a server; training needs weights: a local folder or a Hub name")
    return model_path(config.model)


def _policy(config: RunConfig, given: str | None) -> str:
    """The model named, else the run's fine-tuned one, else the model of the configuration."""
    tuned = config.run / "sft"
    if given is not None:
        return model_path(given)
    return str(tuned) if (tuned / "training.json").is_file() else _model(config)


def _exported(run: Path, kind: str) -> Path:
    """The run's export of `kind`; raises `UsageError` where there is none."""
    for suffix in (".jsonl", ".parquet"):
        path = run / "export" / f"{kind}{suffix}"
        if path.is_file():
            return path
    raise UsageError(
        f"no {kind} set in {run / 'export'}; write it with `constitute export --run {run}` or give "
        "--data FILE"
    )
