"""Prompts that are never trained on: what the policy earns there during a run, and when that says to stop."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from constitute.config.ppo import PPOConfig
from constitute.errors import UsageError
from constitute.stats import first_best, mean, stderr
from constitute.types import Prompt, Record

if TYPE_CHECKING:
    from constitute.train.common.rollout import Rollouts

FILE = "held_out.jsonl"
# The weighted sum of the parts, beside whose names it stands.
TOTAL = "sum"
# Standard errors of a paired difference beyond which it is no chance: a two-sided 95 % interval.
BEYOND = 1.96

# Prompts and their token ids as the engine renders them.
Rendered = tuple[Sequence[Prompt], Sequence[Sequence[int]]]
Split = tuple[list[Prompt], list[list[int]]]


class Evaluation(Record):
    """Line of held_out.jsonl: the policy after `iteration` iterations on the held-out prompts, in order.

    `parts` are the values of each part of the reward, those of weight 0 included, and `rewards` their
    weighted sum: one number a prompt.
    """

    iteration: int
    rewards: tuple[float, ...]
    parts: dict[str, tuple[float, ...]]
    lengths: tuple[int, ...]
    ended: tuple[bool, ...]

    def values(self, part: str) -> tuple[float, ...]:
        """The values of a part by its name, or the weighted sum."""
        return self.parts.get(part, self.rewards)


def split_share(
    prompts: Sequence[Prompt], ids: Sequence[list[int]], share: float, seed: int
) -> tuple[Split, Split]:
    """The prompts to train on and those held out: a share of them, by a hash of their conversation.

    A conversation that comes twice is on one side. Raises `UsageError` where a side would be empty.
    """
    ranked = sorted({_key(prompt, seed) for prompt in prompts})
    held = set(ranked[: round(share * len(ranked))])
    kept: Split = ([], [])
    aside: Split = ([], [])
    for prompt, each in zip(prompts, ids, strict=True):
        side = aside if _key(prompt, seed) in held else kept
        side[0].append(prompt)
        side[1].append(each)
    if not kept[0] or not aside[0]:
        raise UsageError(
            f"held_out={share:g} of {len(ranked)} different prompts leaves {len(kept[0])} to train on "
            f"and {len(aside[0])} held out; give more prompts, or a file of others as held_out"
        )
    return kept, aside


def _key(prompt: Prompt, seed: int) -> str:
    text = "\n".join(f"{message.role}: {message.content}" for message in prompt.messages)
    return hashlib.sha256(f"{seed}:held out:{text}".encode()).hexdigest()


def due(iteration: int, config: PPOConfig) -> bool:
    """Whether the policy is measured after `iteration` iterations.

    Where the best policy is chosen by it, every checkpoint is measured.
    """
    last = iteration == config.iterations
    saved = bool(config.stop_on) and iteration % config.checkpoint_every == 0
    return last or saved or iteration % config.held_out_every == 0


def evaluation_of(
    iteration: int,
    rollouts: Rollouts,
    rewards: Sequence[float],
    parts: dict[str, list[float]],
) -> Evaluation:
    """What was found of one response to each held-out prompt."""
    return Evaluation(
        iteration=iteration,
        rewards=tuple(rewards),
        parts={name: tuple(values) for name, values in parts.items()},
        lengths=tuple(len(one.token_ids) for one in rollouts.completions),
        ended=tuple(rollouts.ended),
    )


def figures_of(one: Evaluation) -> dict[str, float]:
    """The figures of metrics.jsonl: means and standard errors, of the sum and of each of several parts."""
    found = {
        "held_out/reward": mean(one.rewards),
        "held_out_stderr/reward": stderr(one.rewards),
        "held_out/length": mean([float(length) for length in one.lengths]),
        "held_out/eos_rate": mean([float(ended) for ended in one.ended]),
    }
    if len(one.parts) > 1:
        for name, values in one.parts.items():
            found[f"held_out/reward/{name}"] = mean(values)
            found[f"held_out_stderr/reward/{name}"] = stderr(values)
    return found


def paired(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Mean of after minus before over the same prompts, and its standard error."""
    differences = [later - sooner for sooner, later in zip(before, after, strict=True)]
    return mean(differences), stderr(differences)


@dataclass(frozen=True)
class Standing:
    """Where a run stands by one part: its reference, and how many measurements in a row lie below it.

    `best` is the last measurement that was higher than the best before it by more than chance: the highest of
    many would be high by chance, and every later one would seem a fall. `fall` is the last measurement minus
    the best, with the half-width of its interval.
    """

    best: int
    below: int
    fall: tuple[float, float]


def standing(evaluations: Sequence[Evaluation], part: str) -> Standing:
    """Compare each measurement with the best before it, prompt by prompt."""
    best, below, fall = evaluations[0], 0, (0.0, 0.0)
    for one in evaluations[1:]:
        gain, error = paired(best.values(part), one.values(part))
        fall = (gain, BEYOND * error)
        if gain > BEYOND * error:
            best, below, fall = one, 0, (0.0, 0.0)
        else:
            below = below + 1 if gain < -BEYOND * error else 0
    return Standing(best.iteration, below, fall)


def summary_of(evaluations: Sequence[Evaluation], config: PPOConfig) -> dict[str, Any]:
    """Proxy and gold on the held-out prompts at the start, at their best and at the end, with intervals.

    `gain` is the end minus the start over the same prompts.
    """
    if not evaluations:
        return {}
    first, last = evaluations[0], evaluations[-1]
    part = config.stop_on or TOTAL
    best = evaluations[first_best([mean(one.values(part)) for one in evaluations])]
    names = [TOTAL, *(last.parts if len(last.parts) > 1 else ())]
    rows = {
        name: {
            "start": _interval(_values(first, name)),
            "best": _interval(_values(best, name)),
            "end": _interval(_values(last, name)),
            "gain": _paired_interval(_values(first, name), _values(last, name)),
        }
        for name in names
    }
    return {
        "prompts": len(last.rewards),
        "measured": len(evaluations),
        "best_by": part,
        "best_iteration": best.iteration,
        "parts": rows,
    }


def _values(one: Evaluation, name: str) -> tuple[float, ...]:
    return one.rewards if name == TOTAL else one.parts[name]


def _interval(values: Sequence[float]) -> dict[str, float]:
    return _around(mean(values), stderr(values), len(values))


def _paired_interval(before: Sequence[float], after: Sequence[float]) -> dict[str, float]:
    return _around(*paired(before, after), len(before))


def _around(value: float, error: float, n: int) -> dict[str, float]:
    width = BEYOND * error
    assert math.isfinite(width)
    return {"value": value, "n": n, "low": value - width, "high": value + width}


def stopped(standing: Standing, config: PPOConfig, iteration: int) -> str:
    """Why a run stopped, for people."""
    value, width = standing.fall
    count = "last measurement was" if standing.below == 1 else f"last {standing.below} measurements were"
    return (
        f"stopped after iteration {iteration} of {config.iterations}: on the held-out prompts "
        f"{config.stop_on} is {-value:.3g} (± {width:.2g}) lower than after iteration {standing.best}; the "
        f"{count} lower beyond chance"
    )
