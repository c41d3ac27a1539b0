"""Preference pairs as the reward model and DPO learn them: tokens, targets, a held-out part, resamples."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from constitute.config.train import RewardConfig
from constitute.data.pairs import PreferencePair
from constitute.engines.render import Renderer
from constitute.errors import DataError
from constitute.types import Message

_CLAMP = (0.4, 0.6)


@dataclass(frozen=True)
class TokenPair:
    """Both sides of a pair in tokens, prompt included, and the row they come from."""

    chosen: list[int]
    rejected: list[int]
    prompt_length: int
    row: PreferencePair

    @property
    def tokens(self) -> int:
        """Tokens of both sides."""
        return len(self.chosen) + len(self.rejected)


@dataclass(frozen=True)
class Split:
    """Pairs to train on and pairs held out, and the pairs left out by reason."""

    train: list[TokenPair]
    held_out: list[TokenPair]
    too_long: int = 0
    weightless: int = 0
    undecided: int = 0

    def counts(self) -> dict[str, int]:
        """The numbers of pairs, as summaries name them."""
        return {
            "pairs": len(self.train),
            "pairs_held_out": len(self.held_out),
            "pairs_too_long": self.too_long,
            "pairs_weightless": self.weightless,
            "pairs_undecided": self.undecided,
        }


class PairSettings(Protocol):
    """What decides which pairs are used and how, as in the configurations of the reward model and of DPO."""

    @property
    def labels(self) -> str: ...
    @property
    def max_length(self) -> int: ...
    @property
    def held_out(self) -> float: ...


def split_pairs(
    pairs: Sequence[PreferencePair], renderer: Renderer, settings: PairSettings, seed: int
) -> Split:
    """Tokenise the pairs and hold out a share of the prompts; a prompt is on one side only.

    Left out and counted: pairs with a side over `max_length`, pairs of weight 0, and, under hard labels,
    pairs with P(chosen) = 0.5, which name no better side.
    """
    weighty = [pair for pair in pairs if pair.weight > 0]
    decided = [pair for pair in weighty if settings.labels != "hard" or pair.chosen_prob != 0.5]
    held = held_out_prompts((pair.prompt for pair in decided), settings.held_out, seed)
    split = Split([], [], 0, len(pairs) - len(weighty), len(weighty) - len(decided))
    too_long = 0
    for pair in decided:
        start = renderer.prompt_ids(pair.prompt)
        chosen, rejected = (
            start + renderer.answer_ids(pair.prompt, text) for text in (pair.chosen, pair.rejected)
        )
        if max(len(chosen), len(rejected)) > settings.max_length:
            too_long += 1
            continue
        side = split.held_out if prompt_key(pair.prompt, seed) in held else split.train
        side.append(TokenPair(chosen, rejected, len(start), pair))
    return replace(split, too_long=too_long)


def prompt_key(prompt: Sequence[Message], seed: int) -> str:
    """What places a prompt in an order of its own for each seed."""
    return hashlib.sha256(f"{seed}:{json.dumps([turn.model_dump() for turn in prompt])}".encode()).hexdigest()


def held_out_prompts(prompts: Iterable[Sequence[Message]], share: float, seed: int) -> set[str]:
    """The keys of the share of the prompts that are held out."""
    keys = sorted({prompt_key(prompt, seed) for prompt in prompts})
    return set(keys[: round(share * len(keys))])


def nothing_left(name: str, n: int, split: Split, settings: PairSettings) -> str:
    """The sentence for a split of `n` pairs that leaves none to train on; `name` is the trainer's section."""
    return (
        f"no pair is left to train on: of {n}, {split.too_long} are longer than {settings.max_length} "
        f"tokens, {split.weightless} have weight 0, {split.undecided} name no better side and "
        f"{len(split.held_out)} are held out; raise train.{name}.max_length or lower train.{name}.held_out"
    )


def target(chosen_prob: float, labels: str) -> float:
    """The P(chosen) to learn: as labelled, rounded to 0 or 1 (`hard`), or within [0.4, 0.6] (`clamped`)."""
    if labels == "hard":
        return float(chosen_prob > 0.5)
    return min(max(chosen_prob, _CLAMP[0]), _CLAMP[1]) if labels == "clamped" else chosen_prob


def margin(pair: PreferencePair) -> float:
    """The row's margin as an amount of r_chosen - r_rejected: negative where rejected is the likelier."""
    size = pair.margin or 0.0
    return size if pair.chosen_prob >= 0.5 else -size


def check_margins(pairs: Sequence[TokenPair], config: RewardConfig) -> None:
    """Raise `DataError` where `train.reward.margin` is on and a row has none."""
    without = sum(pair.row.margin is None for pair in pairs)
    if config.margin and without:
        raise DataError(
            f"{without} of {len(pairs)} rows have no `margin`; give each row one or set "
            "train.reward.margin=false"
        )


def bootstrap_counts(n: int, heads: int, seed: int) -> list[list[int]]:
    """How often each of n pairs occurs in each head's resample: n draws with replacement (Efron 1979).

    Indexed [head][pair]. One head learns from every pair once: there is nothing to disagree with.
    """
    if heads == 1:
        return [[1] * n]
    counts = []
    for head in range(heads):
        drawn = Counter(random.Random(f"{seed}:bootstrap:{head}").choices(range(n), k=n))
        counts.append([drawn[pair] for pair in range(n)])
    return counts


def consecutive(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Places of `costs` in order, each group within `budget`; a cost above it is alone in its group."""
    groups: list[list[int]] = []
    filled = 0
    for place, cost in enumerate(costs):
        if groups and filled + cost <= budget:
            groups[-1].append(place)
            filled += cost
        else:
            groups.append([place])
            filled = cost
    return groups


def sides_of(pairs: Sequence[TokenPair]) -> list[list[int]]:
    """The tokens of all chosen sides, then of all rejected ones."""
    return [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
