"""Start PPO from a run: its policy, its rewards, its prompts and what samples the rollouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from constitute.config import RunConfig
from constitute.config.ppo import PPOConfig
from constitute.data.prompts import read_prompts
from constitute.engines import resolve_kind
from constitute.engines.base import Engine
from constitute.engines.render import RenderSettings
from constitute.errors import UsageError
from constitute.packaged import model_path
from constitute.progress import Progress, Silent, first_process, process_count
from constitute.threads import use_threads
from constitute.train.common.from_run import (
    keep_settings,
    on_one_day,
    policy_of,
    prompts_by,
    unopened_engine,
)
from constitute.train.common.lora import note_rate
from constitute.train.rewards.sources import GivenRewards, open_rewards, used_rewards
from constitute.train.rewards.trust import check_rewards
from constitute.types import Prompt

if TYPE_CHECKING:
    from constitute.train.ppo.held_out import Rendered
    from constitute.train.ppo.probe import Rollouter, Unopened


def run_ppo(
    config: RunConfig,
    prompts: Sequence[Prompt],
    *,
    policy: str | None = None,
    method: Literal["ppo", "grpo"] = "ppo",
    reward: GivenRewards | None = None,
    reference: str | None = None,
    out: Path | None = None,
    engine: Engine | None = None,
    replay: Path | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Train `policy` (RUN/sft, else `config.model`) against `reward` into `out` (RUN/ppo or RUN/grpo).

    `method` names the section of `train` whose settings hold. `reward` is one source or several (see
    `rewards.sources`); without it the section's `rewards`, else RUN/reward. `engine`, where given,
    samples the rollouts and is left open, holding the trained weights. `replay` names a run whose stored
    rollouts and prompts take the place of an engine and of `prompts`. Of several processes that train
    together, only the first samples and asks for rewards. Raises `GateFailed` for a reward model that is not
    shown to be better than chance, unless `force`.
    """
    from constitute.train.ppo.algorithms import find_algorithm
    from constitute.train.ppo.run import train_ppo

    settings: PPOConfig = getattr(config.train, method)
    find_algorithm(settings)
    folder = out or config.run / method
    name = policy_of(config, policy)
    use_threads(name, config.engine.threads, training=True)
    progress = progress or Silent()
    note_rate(settings, method, progress)
    wanted = settings.rewards if reward is None else reward
    settings = settings.model_copy(update={"rewards": used_rewards(wanted)})
    with ExitStack() as opened:
        config = opened.enter_context(on_one_day(config, folder))
        parts = opened.enter_context(open_rewards(config, wanted, asks=first_process()))
        check_rewards(parts, progress, force=force)
        given = opened.enter_context(_rollouts(config, settings, name, prompts, engine, replay, progress))
        summary = train_ppo(
            *given.train,
            name,
            parts,
            folder,
            settings,
            engine=given.engine,
            seed=config.seed,
            progress=progress,
            reference=model_path(reference) if reference else None,
            rendering=RenderSettings.of(config.engine),
            held_out=given.held_out,
            footprint=config.train.footprint,
        )
    if out is None:
        keep_settings(config, method)
    return summary


@dataclass(frozen=True)
class _Given:
    """What the rollouts come from, and the rendered prompts; nothing in a process that does not sample."""

    engine: Rollouter | Unopened | None = None
    train: Rendered = ((), ())
    held_out: Rendered | None = None


@contextmanager
def _rollouts(
    config: RunConfig,
    settings: PPOConfig,
    policy: str,
    prompts: Sequence[Prompt],
    engine: Engine | None,
    replay: Path | None,
    progress: Progress,
) -> Iterator[_Given]:
    """Yield what the rollouts come from, the prompts and their token ids."""
    if not first_process():
        yield _Given()
        return
    if replay is not None:
        from constitute.train.ppo.replay import open_replay

        if settings.resample_rounds:
            raise UsageError(
                f"a replay holds one sample of each batch and train.{settings.section}.resample_rounds asks "
                f"for more; set train.{settings.section}.resample_rounds=0"
            )
        stored = open_replay(replay, settings.section)
        yield _Given(stored, (stored.prompts, stored.prompt_ids))
        return
    if engine is None and process_count() > 1:
        _check_engine_beside_others(policy, config)
    from constitute.train.ppo.probe import Unopened

    train, held_out = _mixed(config, settings, prompts), _held_out(config, settings)
    with unopened_engine(config, policy, engine, progress) as (ids_of, opening):
        render = partial(prompts_by, ids_of, system=config.generate.system, progress=progress)
        yield _Given(Unopened(opening), render(train), None if held_out is None else render(held_out))


def _mixed(config: RunConfig, settings: PPOConfig, prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    """The run's prompts and those of the files mixed in, each named by its source where there are several."""
    from constitute.train.ppo.mixing import OWN, name_of, named, shares_of

    if not settings.mix:
        return prompts
    shares_of(settings.mix)
    found = named(prompts, OWN)
    for one in settings.mix:
        found += named(read_prompts(one.file, reading=config.read)[0], name_of(one))
    return found


def _held_out(config: RunConfig, settings: PPOConfig) -> list[Prompt] | None:
    """The prompts of the file that is held out; None where it is a share of the prompts, or nothing."""
    if not isinstance(settings.held_out, str):
        return None
    return read_prompts(settings.held_out, reading=config.read)[0]


def _check_engine_beside_others(policy: str, config: RunConfig) -> None:
    """Refuse vLLM in this process: it would make a process group of its own, where training needs its own."""
    if config.engine.rollout_url is None and resolve_kind(policy, config.engine.kind) == "vllm":
        raise UsageError(
            f"vLLM cannot run inside one of {process_count()} training processes; start `constitute serve "
            f"{policy} --rollouts` and set engine.rollout_url to its URL, or set engine.kind=transformers"
        )
