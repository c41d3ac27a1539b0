"""Train from a run by preferences without RL: DPO on its labels, and best-of-n against a reward."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.config.train import BestOfNConfig
from constitute.data.export import exported_file
from constitute.engines.base import Engine, RolloutEngine
from constitute.engines.swap import open_sampler
from constitute.errors import DataError, UsageError
from constitute.progress import Progress, Silent
from constitute.stages.generate import conversation
from constitute.train.rewards.sources import Reward, open_rewards
from constitute.train.run import policy_of, rendered_prompts
from constitute.types import Prompt


def run_dpo(
    config: RunConfig,
    *,
    data: Path | None = None,
    model: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train `model` (RUN/sft, else `config.model`) by DPO on `data` (RUN/export/preferences.*).

    Saves it to `out` (RUN/dpo) and returns the summary.
    """
    from constitute.train.dpo import train_dpo

    return train_dpo(
        data or exported_file(config.run, "preferences"),
        policy_of(config, model),
        out or config.run / "dpo",
        config.train.dpo,
        seed=config.seed,
        progress=progress or Silent(),
    )


def run_best_of_n(
    config: RunConfig,
    prompts: Sequence[Prompt],
    *,
    model: str | None = None,
    reward: Reward | None = None,
    n: int | None = None,
    out: Path | None = None,
    sft: bool = False,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Sample `n` completions of each prompt from `model` (RUN/sft, else `config.model`); keep the best.

    `reward` is one source or several (see `loop.rewards`); without it `train.ppo.rewards`, else RUN/reward.
    Writes samples.jsonl and best.jsonl to `out` (RUN/best-of-n); with `sft`, fine-tunes the model on the
    latter into `out`/sft. `engine`, where given, samples and is left open. Returns the summary.
    """
    from constitute.train.best_of_n.choice import BEST
    from constitute.train.best_of_n.run import sample_best

    policy, folder, progress = policy_of(config, model), out or config.run / "best-of-n", progress or Silent()
    settings = _settings(config, n)
    asked = [
        prompt.model_copy(update={"messages": conversation(prompt, config.generate.system)})
        for prompt in prompts
    ]
    with open_rewards(config, reward) as parts:
        used = engine or open_sampler(policy, config.engine)
        try:
            if not isinstance(used, RolloutEngine):
                raise UsageError(
                    f"the engine of {policy} answers no token ids; use a local model and set engine.kind to "
                    "vllm or transformers"
                )
            kept, ids = rendered_prompts(asked, "", used, progress)
            summary = sample_best(
                kept, ids, policy, parts, folder, settings, engine=used, seed=config.seed, progress=progress
            )
        finally:
            if engine is None:
                asyncio.run(used.close())
    summary = summary | {"prompts_refused": len(prompts) - len(kept)}
    if not sft:
        return summary
    if summary["prompts_failed"] == summary["prompts"]:
        raise DataError(
            f"{folder / BEST} is empty: no completion of any prompt ended within "
            f"{settings.max_new_tokens} tokens; raise train.best_of_n.max_new_tokens"
        )
    tuned = _fine_tuned(folder, policy, config, progress)
    return summary | {"sft": tuned}


def _fine_tuned(folder: Path, policy: str, config: RunConfig, progress: Progress) -> dict[str, Any]:
    """The summary of SFT on the best completions, in `folder`/sft."""
    from constitute.train.best_of_n.choice import BEST
    from constitute.train.sft import train_sft

    return train_sft(
        folder / BEST,
        policy,
        folder / "sft",
        config.train.sft,
        seed=config.seed,
        progress=progress,
        kind="best-of-n",
    )


def _settings(config: RunConfig, n: int | None) -> BestOfNConfig:
    settings = config.train.best_of_n
    return settings if n is None else settings.model_copy(update={"n": n})
