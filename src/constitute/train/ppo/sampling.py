"""Sample the batch of an iteration; prompts whose samples teach nothing may be replaced by others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from constitute.config.ppo import PPOConfig
from constitute.train.common import rollout
from constitute.train.common.rollout import Rollouts
from constitute.train.common.team import Team
from constitute.train.ppo.mixing import draw
from constitute.train.ppo.probe import Rollouter
from constitute.types import Completion, Prompt, SamplingParams

# Scores closer than this are alike: what is left is rounding.
_ALIKE = 1e-6


def seed_of(seed: int, what: str, iteration: int) -> int:
    """A seed for one use of randomness in one iteration, so that a resumed run draws what it would have."""
    digest = hashlib.sha256(f"{seed}:{what}:{iteration}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


@dataclass(frozen=True)
class Asked:
    """What the engine is asked in one iteration: a prompt a completion, and how to sample them."""

    iteration: int
    prompts: Sequence[Prompt]
    ids: Sequence[Sequence[int]]
    sampling: SamplingParams


@dataclass(frozen=True)
class Sampler:
    """Draws prompts in order and has the engine answer each; of several processes one alone has an engine."""

    engine: Rollouter | None
    prompts: Sequence[Prompt]
    prompt_ids: Sequence[Sequence[int]]
    eos: frozenset[int]
    team: Team
    config: PPOConfig
    seed: int

    def settings(self, iteration: int, attempt: int = 0) -> SamplingParams:
        """How the completions of an iteration are sampled."""
        what = f"rollouts:{attempt}" if attempt else "rollouts"
        return SamplingParams(
            max_tokens=self.config.max_new_tokens,
            temperature=self.config.temperature,
            seed=seed_of(self.seed, what, iteration),
        )

    def sample(self, iteration: int, groups: int, attempt: int = 0) -> Rollouts:
        """The samples of `groups` prompts, those of a prompt in adjacent rows.

        A later `attempt` at the same iteration draws its prompts anew from all of them.
        """
        asked = self.ask(iteration, groups, attempt)
        return self.gathered(asked, self.answered(asked))

    def ask(self, iteration: int, groups: int, attempt: int = 0) -> Asked:
        """Draw the prompts of `sample`, and the settings of their completions."""
        order_seed = seed_of(self.seed, f"prompts:{attempt}", iteration) if attempt else self.seed
        drawn = draw(self.prompts, self.config.mix, groups, None if attempt else iteration, order_seed)
        rows = [row for row in drawn for _ in range(self.config.samples_per_prompt)]
        return Asked(
            iteration,
            [self.prompts[row] for row in rows],
            [self.prompt_ids[row] for row in rows],
            self.settings(iteration, attempt),
        )

    def answered(self, asked: Asked) -> Sequence[Completion] | None:
        """The engine's completions; None in a process without one."""
        if self.engine is None:
            return None
        wanted = self.config.old_logprobs == "engine" or self.config.weight_cap is not None
        return self.engine.generate_ids(asked.ids, asked.sampling, logprobs=wanted)

    def gathered(self, asked: Asked, completions: Sequence[Completion] | None) -> Rollouts:
        """Prompts and completions as rollouts, in every process."""
        shared = self.team.share(completions)
        return rollout.gather(asked.prompts, asked.ids, shared, self.eos, self.team.device)


def flat_groups(scores: Sequence[float], samples: int) -> list[int]:
    """Places of the groups of `samples` adjacent rows whose scores are all alike."""
    groups = [scores[start : start + samples] for start in range(0, len(scores), samples)]
    return [place for place, group in enumerate(groups) if max(group) - min(group) < _ALIKE]


def with_groups(
    rollouts: Rollouts,
    fresh: Rollouts,
    places: Sequence[int],
    samples: int,
    eos: frozenset[int],
    device: torch.device,
) -> Rollouts:
    """The batch with its groups at `places` replaced by those of `fresh`, in their order."""
    prompts, completions = list(rollouts.prompts), list(rollouts.completions)
    ids, fresh_ids = _prompt_ids(rollouts), _prompt_ids(fresh)
    for number, place in enumerate(places):
        there, new = _rows(place, samples), _rows(number, samples)
        prompts[there] = fresh.prompts[new]
        completions[there] = fresh.completions[new]
        ids[there] = fresh_ids[new]
    return rollout.gather(prompts, ids, completions, eos, device)


def with_values(
    values: Mapping[str, Sequence[float]],
    fresh: Mapping[str, Sequence[float]],
    places: Sequence[int],
    samples: int,
) -> dict[str, list[float]]:
    """The values of each part of the reward, those of the groups at `places` replaced as the rollouts are."""
    joined = {name: list(each) for name, each in values.items()}
    for number, place in enumerate(places):
        for name, each in joined.items():
            each[_rows(place, samples)] = fresh[name][_rows(number, samples)]
    return joined


def _rows(group: int, samples: int) -> slice:
    return slice(group * samples, (group + 1) * samples)


def _prompt_ids(rollouts: Rollouts) -> list[list[int]]:
    lengths = zip(rollouts.sequences, rollouts.prompt_lengths, strict=True)
    return [sequence[:length] for sequence, length in lengths]
