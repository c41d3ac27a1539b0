"""Open what a policy is rewarded by: reward models, Python functions, services and the judge, weighted.

A source is a text; `KINDS` says which kinds there are. A further kind is a module and an entry there.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.config.ppo import RewardSource
from constitute.engines.locate import require
from constitute.errors import UsageError
from constitute.packaged import model_path
from constitute.train.common.artefact import model_identity, unfinished
from constitute.train.rewards import function, judge, service
from constitute.train.rewards.parts import Opening, RewardFunction, RewardPart, SourceKind
from constitute.urls import is_url

# A text is `SOURCE` or `WEIGHT*SOURCE`, as on the command line.
GivenReward = str | RewardSource | RewardFunction
GivenRewards = GivenReward | Sequence[GivenReward]

_WEIGHTED = re.compile(r"\s*([^*/:]+?)\s*\*\s*(.*)")


def _open_model(source: str, opening: Opening) -> tuple[str, str]:
    """The folder or Hub name of a reward model, which the trainer loads, and its identity."""
    path = model_path(source)
    try:
        require(path)
    except UsageError as problem:
        why = str(problem) if Path(path).is_dir() else "no such folder, and no such model of the Hub at hand"
        raise UsageError(f"reward {source!r}: {why}; a source is {forms()}") from None
    return path, model_identity(path)


# Name -> kind. The last entry that matches a text opens it, so an added kind goes before the general ones.
KINDS: dict[str, SourceKind] = {
    "model": SourceKind(
        "a reward model's folder or Hub name",
        lambda source: True,
        lambda source: Path(source).name or source,
        _open_model,
    ),
    "function": SourceKind(
        "module:function",
        function.is_function,
        lambda source: source.rpartition(":")[2],
        function.open_function,
    ),
    "service": SourceKind("an http(s):// URL", is_url, service.host_of, service.open_service),
    "judge": SourceKind("judge[:CONSTITUTION]", judge.is_judge, judge.judge_name, judge.open_judge_reward),
}


def kind_of(source: str) -> SourceKind:
    """The kind of reward source that a text names."""
    return next(kind for kind in reversed(KINDS.values()) if kind.matches(source))


def forms() -> str:
    """What a source may be, in words."""
    *others, last = (kind.form for kind in KINDS.values())
    return f"{', '.join(others)}, or {last}"


def parse_reward(text: str) -> RewardSource:
    """`SOURCE` or `WEIGHT*SOURCE`, such as `0.5*judge`. Raises `UsageError` for another weight."""
    found = _WEIGHTED.fullmatch(text)
    weight, source = (found[1], found[2]) if found else ("1", text)
    try:
        return RewardSource(source=source.strip(), weight=float(weight))
    except ValueError:
        raise UsageError(
            f"reward {text!r} is not SOURCE or WEIGHT*SOURCE, such as 0.5*judge; a source is {forms()}"
        ) from None


def used_rewards(given: GivenRewards) -> tuple[RewardSource, ...]:
    """What is rewarded by, named; empty for the run's own reward model.

    Names are distinct and taken from the sources where they are not set. Raises `UsageError` where every
    weight is 0.
    """
    return tuple(source for source, _ in _chosen(given))


@contextmanager
def open_rewards(
    config: RunConfig, given: GivenRewards = (), *, asks: bool = True
) -> Iterator[tuple[RewardPart, ...]]:
    """The parts of the reward, each ready to be called from blocking code; closed at the end.

    Takes `given`, or the reward model in RUN/reward where that is empty. A process that never
    `asks` (of several that train together, only the first does) opens no judge. Raises `UsageError` for a
    source that does not exist; a part raises `DataError` or `EngineError` for a response without a reward.
    """
    chosen = _chosen(given)
    if not chosen:
        yield (_own(config),)
        return
    # One event loop for all calls: a judge's connections live from batch to batch.
    with asyncio.Runner() as runner, ExitStack() as closing:
        opening = Opening(config, runner, closing, asks)
        yield tuple(_part(source, call, opening) for source, call in chosen)


def _part(source: RewardSource, given: RewardFunction | None, opening: Opening) -> RewardPart:
    if given is None:
        call, identity = kind_of(source.source).open(source.source, opening)
    else:
        call, identity = function.ready(source.source, given, opening)
    return RewardPart(source.name, call, source.weight, identity)


def _chosen(given: GivenRewards) -> list[tuple[RewardSource, RewardFunction | None]]:
    """GivenRewards with distinct names, and the function of those given as one."""
    wanted: Sequence[GivenReward]
    wanted = [given] if isinstance(given, str | RewardSource) or callable(given) else given
    chosen: list[tuple[RewardSource, RewardFunction | None]] = []
    taken: set[str] = set()
    for each in wanted:
        source, call = _read(each)
        default = getattr(call, "__name__", "") or kind_of(source.source).name(source.source)
        name = source.name or _distinct(default, taken)
        taken.add(name)
        chosen.append((source.model_copy(update={"name": name}), call))
    if chosen and not any(source.weight for source, _ in chosen):
        raise UsageError("every reward has weight 0, so there is nothing to maximise; give one a weight")
    return chosen


def _read(given: GivenReward) -> tuple[RewardSource, RewardFunction | None]:
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
    folder = str(config.run / "reward")
    if not Path(folder).is_dir():
        raise UsageError(f"no reward model in {folder}; run `constitute train reward` first or give --reward")
    if unfinished(Path(folder)):
        raise UsageError(
            f"the training in {folder} is not finished (checkpoints, no model); finish it with the "
            f"command that began it, `constitute train reward --run {shlex.quote(str(config.run))}` with its "
            "options, or name another reward with --reward"
        )
    return RewardPart("reward", folder, identity=model_identity(folder))
