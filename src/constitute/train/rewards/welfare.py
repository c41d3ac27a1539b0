"""One reward from several: a weighted sum, or a social welfare function of what each part says.

Several constitutions, each with a judge or a reward model of its own, stand for several people whose
preferences differ (arXiv 2211.15006). There the best of some answers is chosen by the welfare; here the
welfare is also maximised, so the isoelastic family is in the form that keeps the unit of the parts: the
amount that, had every part the same, would be worth as much (A. Atkinson, 1970).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from constitute.errors import DataError, UsageError
from constitute.train.rewards.parts import RewardPart
from constitute.types import Prompt

# Functions of utilities that must be above 0.
_OF_POSITIVE = ("nash", "isoelastic")


class WelfareSettings(Protocol):
    """What decides how rewards become one, as in `train.ppo`."""

    @property
    def welfare(self) -> str: ...
    @property
    def aversion(self) -> float: ...
    @property
    def utility(self) -> str: ...


@dataclass(frozen=True)
class Welfare:
    """A welfare function by its name, its aversion to inequality, and the scale of its utilities.

    `section` is where its settings stand.
    """

    name: str = "sum"
    aversion: float = 1.0
    utility: str = "raw"
    section: str = "ppo"

    @staticmethod
    def of(settings: WelfareSettings, section: str = "ppo") -> Welfare:
        """The welfare that a trainer's settings ask for."""
        return Welfare(settings.welfare, settings.aversion, settings.utility, section)

    @property
    def identity(self) -> str:
        """What a recipe says of it; nothing for the sum of the parts as they are."""
        aversion = f":{self.aversion:g}" if self.name == "isoelastic" else ""
        return "" if self == Welfare(section=self.section) else f"{self.name}{aversion}:{self.utility}"


def check_welfare(welfare: Welfare, parts: Sequence[RewardPart]) -> None:
    """Raise `UsageError` for a negative weight under a welfare function that is no plain sum."""
    against = [part.name for part in parts if part.weight < 0]
    if welfare.name != "sum" and against:
        raise UsageError(
            f"the reward {against[0]!r} has a negative weight, which welfare={welfare.name} cannot take; "
            f"give it a weight from 0 up, or set train.{welfare.section}.welfare=sum"
        )


def total_rewards(
    parts: Sequence[RewardPart],
    values: Mapping[str, Sequence[float]],
    welfare: Welfare,
    prompts: Sequence[Prompt],
) -> list[float]:
    """One reward a response from the values of each part, which `values` holds by name.

    Raises `DataError` as `total_reward` does, naming the prompt.
    """
    return [
        total_reward(
            parts,
            {name: column[row] for name, column in values.items()},
            welfare,
            f"the response to prompt {prompt.id!r}",
        )
        for row, prompt in enumerate(prompts)
    ]


def total_reward(
    parts: Sequence[RewardPart], values: Mapping[str, float], welfare: Welfare, what: str
) -> float:
    """The reward of one response, which a sentence calls `what`, from the value of each part by name.

    Parts of weight 0 do not enter, except into the sum, where they add 0. Raises `DataError` where a utility
    is not above 0 and the function needs it.
    """
    counted = [part for part in parts if part.weight or welfare.name == "sum"]
    utilities = [UTILITIES[welfare.utility](values[part.name]) for part in counted]
    worst = min(utilities)
    if welfare.name in _OF_POSITIVE and worst <= 0:
        raise DataError(
            f"{counted[utilities.index(worst)].name} of {what} is {worst:.3g}, and welfare={welfare.name} "
            f"needs rewards above 0; set train.{welfare.section}.utility=sigmoid"
        )
    return WELFARES[welfare.name](utilities, [part.weight for part in counted], welfare.aversion)


def _sum(utilities: Sequence[float], weights: Sequence[float], aversion: float) -> float:
    return sum(weight * utility for weight, utility in zip(weights, utilities, strict=True))


def _mean(utilities: Sequence[float], weights: Sequence[float], aversion: float) -> float:
    return _sum(utilities, weights, aversion) / sum(weights)


def _min(utilities: Sequence[float], weights: Sequence[float], aversion: float) -> float:
    return min(utilities)


def _nash(utilities: Sequence[float], weights: Sequence[float], aversion: float) -> float:
    return math.exp(_mean([math.log(utility) for utility in utilities], weights, aversion))


def _isoelastic(utilities: Sequence[float], weights: Sequence[float], aversion: float) -> float:
    """(mean of u^(1 - a))^(1 / (1 - a)): the mean at a = 0, `nash` at 1, towards the least beyond."""
    power = 1.0 - aversion
    if abs(power) < 1e-9:
        return _nash(utilities, weights, aversion)
    # Relative to the least: a high power of a small number would leave the range of floats.
    least = min(utilities)
    return float(
        least * _mean([(utility / least) ** power for utility in utilities], weights, 0.0) ** (1.0 / power)
    )


def _sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)): the chance to be preferred to an answer of reward 0. Never 0 or above 1."""
    return math.exp(min(0.0, value)) / (1.0 + math.exp(-abs(value)))


def _raw(value: float) -> float:
    return value


# Name -> function of utilities, weights and the aversion to inequality.
WELFARES: dict[str, Callable[[Sequence[float], Sequence[float], float], float]] = {
    "sum": _sum,
    "mean": _mean,
    "min": _min,
    "nash": _nash,
    "isoelastic": _isoelastic,
}
UTILITIES: dict[str, Callable[[float], float]] = {"raw": _raw, "sigmoid": _sigmoid}
