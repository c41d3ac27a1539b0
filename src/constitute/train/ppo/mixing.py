"""Which prompts a batch is made of: the run's own in order, and shares of others mixed in."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from constitute.config.ppo import PPOConfig, PromptShare
from constitute.errors import UsageError
from constitute.stats import mean, stderr
from constitute.train.common.batching import prompt_order
from constitute.types import Prompt

# What the metrics call the run's own prompts.
OWN = "prompts"


def name_of(one: PromptShare) -> str:
    """What the metrics call a file of prompts."""
    return one.name or PurePath(one.file).stem


def named(prompts: Sequence[Prompt], name: str) -> list[Prompt]:
    """The prompts with `name` as their source, by which a mixed batch is drawn and measured."""
    return [prompt.model_copy(update={"source": name}) for prompt in prompts]


def shares_of(mix: Sequence[PromptShare]) -> dict[str, float]:
    """The share of a batch that each source fills, the run's own prompts first.

    Raises `UsageError` for two sources of one name.
    """
    shares = {OWN: 1.0 - sum(one.share for one in mix)}
    for one in mix:
        if name_of(one) in shares:
            raise UsageError(
                f"two sources of prompts are called {name_of(one)}; give each entry of mix a name of its own"
            )
        shares[name_of(one)] = one.share
    return shares


def counts_of(shares: Mapping[str, float], groups: int) -> dict[str, int]:
    """Prompts of each source in a batch of `groups`: the shares, rounded so that they add up.

    The largest remainders get what rounding down leaves. Raises `UsageError` for a share of no prompt.
    """
    exact = {name: share * groups for name, share in shares.items()}
    counts = {name: int(value + 1e-9) for name, value in exact.items()}
    left = groups - sum(counts.values())
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[:left]:
        counts[name] += 1
    for name, count in counts.items():
        if not count:
            raise UsageError(
                f"a share of {shares[name]:.3g} of {groups} prompts is less than one prompt of {name} in a "
                "batch; raise its share in mix, or batch_size"
            )
    return counts


def draw(
    prompts: Sequence[Prompt],
    mix: Sequence[PromptShare],
    groups: int,
    iteration: int | None,
    seed: int,
) -> list[int]:
    """Places of the prompts of one batch: each source in an order of its own, gone through again and again.

    Every batch holds the same number of each source. An `iteration` of None draws from the start of a fresh
    order, the sources by chance.
    """
    if not mix:
        return prompt_order(len(prompts), groups, iteration or 0, seed)
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt.source, []).append(place)
    shares = shares_of(mix)
    if iteration is None:
        chance = random.Random(f"{seed}:sources")
        drawn = chance.choices(list(shares), weights=list(shares.values()), k=groups)
        counts: Mapping[str, int] = Counter(drawn)
    else:
        counts = counts_of(shares, groups)
    chosen: list[int] = []
    for number, (name, count) in enumerate(counts.items()):
        own = places[name]
        # Lengths that are alike must not make orders that are alike.
        order = prompt_order(len(own), count, iteration or 0, seed + number)
        chosen += [own[place] for place in order]
    return chosen


def check_mix(prompts: Sequence[Prompt], config: PPOConfig) -> None:
    """Raise `UsageError` unless each source has prompts left and a place in every batch."""
    if not config.mix:
        return
    counts = counts_of(shares_of(config.mix), config.batch_size // config.samples_per_prompt)
    held = Counter(prompt.source for prompt in prompts)
    lacking = [name for name in counts if not held[name]]
    if lacking:
        raise UsageError(
            f"no prompt of {lacking[0]} is left to train on ({_listed(held)}); see that its prompts leave "
            "room for a response, or take it out of mix"
        )


def source_figures(prompts: Sequence[Prompt], rewards: Sequence[float], config: PPOConfig) -> dict[str, Any]:
    """How many rollouts each source gave, and their mean reward; nothing without a mix."""
    if not config.mix:
        return {}
    figures: dict[str, Any] = {}
    for name in shares_of(config.mix):
        values = [value for prompt, value in zip(prompts, rewards, strict=True) if prompt.source == name]
        figures[f"source/{name}/n"] = len(values)
        figures[f"source/{name}/reward"] = mean(values) if values else None
        figures[f"source/{name}/reward_stderr"] = stderr(values) if values else None
    return figures


def _listed(held: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in held.items()) or "none of any"
