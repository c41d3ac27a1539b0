"""Open what a policy is rewarded by: reward models, Python functions, services and the judge, weighted.

A source is a text: a reward model's folder or Hub name, `module:function`, a URL, or `judge`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from constitute.config import RunConfig
from constitute.config.ppo import RewardSource
from constitute.engines import is_url
from constitute.engines.locate import require
from constitute.errors import UsageError
from constitute.packaged import model_path
from constitute.train.rewards.function import RewardFunction, checked, identity_of, load_function
from constitute.train.rewards.judge import judge_rewards, open_judge
from constitute.train.rewards.service import service_rewards
from constitute.types import Completion, Prompt

if TYPE_CHECKING:
    from constitute.train.rewards.total import RewardPart

# A text is `SOURCE` or `WEIGHT*SOURCE`, as on the command line.
Given = str | RewardSource | RewardFunction
Reward = Given | Sequence[Given]

JUDGE = "judge"
_FORMS = "a reward model's folder or Hub name, module:function, an http(s):// URL, or judge"
_WEIGHTED = re.compile(r"\s*([^*/:]+?)\s*\*\s*(.*)")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def parse_reward(text: str) -> RewardSource:
    """`SOURCE` or `WEIGHT*SOURCE`, such as `0.5*judge`. Raises `UsageError` for another weight."""
    found = _WEIGHTED.fullmatch(text)
    weight, source = (found[1], found[2]) if found else ("1", text)
    try:
        return RewardSource(source=source.strip(), weight=float(weight))
    except ValueError:
        raise UsageError(
            f"reward {text!r} is not SOURCE or WEIGHT*SOURCE, such as 0.5*judge; a source is {_FORMS}"
        ) from None


def used_rewards(config: RunConfig, given: Reward | None = None) -> tuple[RewardSource, ...]:
    """What is rewarded by, named: `given`, else `train.ppo.rewards`; empty for the run's own reward model.

    Names are distinct and taken from the sources where they are not set. Raises `UsageError` where every
    weight is 0.
    """
    return tuple(source for source, _ in _chosen(config, given))


@contextmanager
def open_rewards(
    config: RunConfig, given: Reward | None = None, *, asks: bool = True
) -> Iterator[tuple[RewardPart, ...]]:
    """The parts of the reward, each ready to be called from blocking code; closed at the end.

    Takes `given`, else `train.ppo.rewards`, else the reward model in RUN/reward. A process that never
    `asks` (of several that train together, the first alone does) opens no judge. Raises `UsageError` for a
    source that does not exist; a part raises `DataError` or `EngineError` for a response without a reward.
    """
    from constitute.train.rewards.total import RewardPart

    chosen = _chosen(config, given)
    if not chosen:
        yield (_own(config),)
        return
    # One event loop for all calls: a judge's connections live from batch to batch.
    with asyncio.Runner() as runner, ExitStack() as opened:
        parts = []
        for source, function in chosen:
            if function is None:
                call, identity = _opened(source.source, config, runner, opened, asks)
            else:
                call, identity = (
                    checked(source.source, function, runner),
                    identity_of(source.source, function),
                )
            parts.append(RewardPart(source.name, call, source.weight, identity))
        yield tuple(parts)


def reward_name(source: str) -> str:
    """What the metrics call a source: its folder, function or host."""
    if is_url(source):
        return urlsplit(source).netloc
    if _is_function(source):
        return source.rpartition(":")[2]
    return Path(source).name or source


def _chosen(config: RunConfig, given: Reward | None) -> list[tuple[RewardSource, RewardFunction | None]]:
    """Sources with distinct names, and the function of those given as one."""
    wanted: Sequence[Given]
    if given is None:
        wanted = config.train.ppo.rewards
    else:
        wanted = [given] if isinstance(given, str | RewardSource) or callable(given) else given
    chosen: list[tuple[RewardSource, RewardFunction | None]] = []
    taken: set[str] = set()
    for each in wanted:
        source, function = _read(each)
        default = getattr(function, "__name__", "") or reward_name(source.source)
        name = source.name or _distinct(default, taken)
        taken.add(name)
        chosen.append((source.model_copy(update={"name": name}), function))
    if chosen and not any(source.weight for source, _ in chosen):
        raise UsageError("every reward has weight 0, so there is nothing to maximise; give one a weight")
    return chosen


def _read(given: Given) -> tuple[RewardSource, RewardFunction | None]:
    if isinstance(given, str):
        return parse_reward(given), None
    if isinstance(given, RewardSource):
        return given, None
    kind: Any = given if hasattr(given, "__qualname__") else type(given)
    return RewardSource(source=f"{kind.__module__}:{kind.__qualname__}"), given


def _distinct(name: str, taken: set[str]) -> str:
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(each for each in numbered if each not in taken)


def _own(config: RunConfig) -> RewardPart:
    from constitute.train.common.artefact import model_fingerprint
    from constitute.train.rewards.total import RewardPart

    folder = str(config.run / "reward")
    if not Path(folder).is_dir():
        raise UsageError(f"no reward model in {folder}; run `constitute train reward` first or give --reward")
    return RewardPart("reward", folder, identity=model_fingerprint(folder))


def _is_function(source: str) -> bool:
    return bool(_FUNCTION.fullmatch(source)) and not Path(source).exists()


def _opened(
    source: str, config: RunConfig, runner: asyncio.Runner, opened: ExitStack, asks: bool
) -> tuple[str | RewardFunction, str]:
    """The reward model's folder or a function that scores, and its identity."""
    if source == JUDGE:
        return _judged(config, runner, opened, asks)
    if is_url(source):
        if not urlsplit(source).hostname:
            raise UsageError(
                f"reward {source!r} names no host; give a URL such as http://127.0.0.1:5000/get_reward"
            )

        def service(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
            return runner.run(service_rewards(source, prompts, completions, config.engine))

        return service, source
    if _is_function(source):
        function = load_function(source)
        return checked(source, function, runner), identity_of(source, function)
    return _reward_model(source)


def _judged(
    config: RunConfig, runner: asyncio.Runner, opened: ExitStack, asks: bool
) -> tuple[RewardFunction, str]:
    judge = open_judge(config, asks=asks)
    engine = judge.engine
    if engine is not None:
        opened.callback(lambda: runner.run(engine.close()))

    def rewards(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        assert engine is not None, "this process said that it never asks"
        return runner.run(
            judge_rewards(
                prompts, completions, engine, judge.constitution, config.label, config.engine.in_flight
            )
        )

    return rewards, judge.identity


def _reward_model(source: str) -> tuple[str, str]:
    from constitute.train.common.artefact import model_fingerprint

    path = model_path(source)
    try:
        require(path)
    except UsageError as problem:
        why = str(problem) if Path(path).is_dir() else "no such folder, and no such model of the Hub at hand"
        raise UsageError(f"reward {source!r}: {why}; a source is {_FORMS}") from None
    return path, model_fingerprint(path)
