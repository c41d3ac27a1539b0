"""The parts of a reward: what opens each, what it says of a rollout, and what is put on the last token."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from constitute.config import RunConfig
from constitute.engines.base import Engine
from constitute.errors import DataError
from constitute.types import Completion, Prompt

if TYPE_CHECKING:
    from constitute.train.common.batching import Batching
    from constitute.train.common.rollout import Rollouts

RewardFunction = Callable[[Sequence[Prompt], Sequence[Completion]], Sequence[float]]


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores whole sequences of token ids, such as `reward.model.RewardModel`."""

    def scores(self, sequences: Sequence[Sequence[int]], batching: Batching) -> list[float]: ...


@dataclass(frozen=True)
class RewardPart:
    """One of the rewards that are made one: a reward model's folder or a function, and its weight.

    A part of weight 0 is measured and not optimised. `identity` enters the recipe of what is trained.
    """

    name: str
    source: str | RewardFunction
    weight: float = 1.0
    identity: str = ""


@dataclass(frozen=True)
class Opening:
    """What a source may use when it is opened: the run, one event loop for all calls, what to close.

    `asks` is False in a process that never asks for a reward, as all but the first of several. `judges` are
    the engines of judges that are open, by their model: one judges under every constitution.
    """

    config: RunConfig
    runner: asyncio.Runner
    closing: ExitStack
    asks: bool = True
    judges: dict[str, Engine] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceKind:
    """One kind of reward source, known by its text.

    `form` says what such a text looks like, `name` what the metrics call it. `open` gives a reward model's
    folder or a blocking function, and its identity; it raises `UsageError` for a source that does not exist.
    """

    form: str
    matches: Callable[[str], bool]
    name: Callable[[str], str]
    open: Callable[[str, Opening], tuple[str | RewardFunction, str]]


Reward = str | RewardFunction | Sequence[RewardPart]


def as_parts(reward: Reward) -> tuple[RewardPart, ...]:
    """The parts of a reward; a single folder or function is one part of weight 1."""
    if isinstance(reward, str):
        return (RewardPart("reward", reward),)
    if callable(reward):
        return (RewardPart("reward", reward, identity=f"{reward.__module__}:{reward.__qualname__}"),)
    parts = tuple(reward)
    names = [part.name for part in parts]
    if len(set(names)) < len(names) or not any(part.weight for part in parts):
        raise DataError(
            f"the rewards {', '.join(names) or '(none)'} need distinct names and one weight that is not 0"
        )
    return parts


def values_of(
    source: Scorer | RewardFunction, name: str, rollouts: Rollouts, batching: Batching
) -> list[float]:
    """One finite value a rollout. Raises `DataError` naming the first prompt whose value is not."""
    if isinstance(source, Scorer):
        values = source.scores(rollouts.sequences, batching)
    else:
        values = list(source(rollouts.prompts, rollouts.completions))
    if len(values) != len(rollouts.sequences):
        raise DataError(
            f"{name} returned {len(values)} rewards for {len(rollouts.sequences)} responses; it must return "
            "one number for each"
        )
    for prompt, value in zip(rollouts.prompts, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(
                f"{name} of the response to prompt {prompt.id!r} is {value!r}, not a finite number; mend the "
                "reward, then run the same command to go on from the last checkpoint"
            )
    return [float(value) for value in values]


def weighted_sum(parts: Sequence[RewardPart], values: dict[str, list[float]]) -> list[float]:
    """sum over parts of weight * value, one number a rollout."""
    rows = len(next(iter(values.values())))
    return [sum(part.weight * values[part.name][row] for part in parts) for row in range(rows)]
