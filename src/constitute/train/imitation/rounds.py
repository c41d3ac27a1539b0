"""What methods that go in rounds share: prompts kept apart, an engine that takes each round's weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from constitute.config.train import BestOfNConfig
from constitute.engines.swap import load_folder
from constitute.errors import UsageError
from constitute.files import read_json
from constitute.progress import Progress
from constitute.significance import sign_flip_p
from constitute.stats import mean, mean_of
from constitute.train.best_of_n.choice import SAMPLES, SampledCompletion, read_samples
from constitute.train.best_of_n.run import RECORD, sample_best
from constitute.train.imitation.held_out import held_out
from constitute.train.rewards.parts import RewardPart
from constitute.train.rewards.welfare import Welfare
from constitute.types import Prompt

_SUM = Welfare()


@dataclass(frozen=True)
class Asked:
    """Prompts and their token ids as the engine renders them."""

    prompts: list[Prompt]
    ids: list[list[int]]


def split_prompts(asked: Asked, share: float, seed: int) -> tuple[Asked, Asked]:
    """(to learn from, held out): by the prompts' words, so that equal prompts are on one side.

    Raises `UsageError` where either would be empty.
    """
    out = held_out([prompt.messages for prompt in asked.prompts], share, seed)
    if len(set(out)) < 2:
        raise UsageError(
            f"of {len(out)} prompts, {sum(out)} are held out, and neither side may be empty; give more "
            "prompts or another share to hold out"
        )
    sides = [[place for place, kept in enumerate(out) if kept is wanted] for wanted in (False, True)]
    learnt, kept = (
        Asked([asked.prompts[place] for place in side], [asked.ids[place] for place in side])
        for side in sides
    )
    return learnt, kept


@dataclass
class Sampler:
    """Samples from one policy after another with one engine, and scores; `holds` is whose weights it has."""

    engine: Any
    holds: str
    parts: tuple[RewardPart, ...]
    config: BestOfNConfig
    progress: Progress
    welfare: Welfare = _SUM

    @property
    def inputs(self) -> dict[str, str]:
        """What a recipe says of how several rewards become one; nothing for their sum."""
        return {"welfare": self.welfare.identity} if self.welfare.identity else {}

    def sample(self, policy: str, asked: Asked, out: Path, seed: int) -> dict[str, Any]:
        """Sample and score into `out`, or take what is there; returns best-of-n's summary.

        The engine gets the weights of `policy` where something is left to sample.
        """
        if policy != self.holds and not _sampled(out):
            with self.progress.waiting(f"bringing the weights of {policy} into the engine"):
                load_folder(self.engine, policy)
            self.holds = policy
        return sample_best(
            asked.prompts,
            asked.ids,
            policy,
            self.parts,
            out,
            self.config,
            engine=self.engine,
            seed=seed,
            progress=self.progress,
            welfare=self.welfare,
        )


def _sampled(out: Path) -> bool:
    record = out / RECORD
    return record.is_file() and read_json(record)["summary"] is not None


def by_prompt(out: Path, n: int) -> Iterator[list[SampledCompletion]]:
    """The n samples of each prompt in turn."""
    stored = read_samples(out / SAMPLES)
    while samples := list(islice(stored, n)):
        yield samples


@dataclass(frozen=True)
class Measured:
    """The mean reward of each held-out prompt's samples, in the prompts' order, and figures of them all."""

    rewards: list[float]
    figures: dict[str, Any]


def measure(out: Path, n: int, seed: int) -> Measured:
    """The reward of the policy that wrote the samples in `out`: all of them, cut off or not."""
    groups = list(by_prompt(out, n))
    rewards = [mean([sample.score for sample in samples]) for samples in groups]
    figures: dict[str, Any] = {"reward": to_jsonable_python(mean_of(rewards, f"{seed}:reward"))}
    names = groups[0][0].scores
    if len(names) > 1:
        for name in names:
            values = [mean([sample.scores[name] for sample in samples]) for samples in groups]
            figures[name] = to_jsonable_python(mean_of(values, f"{seed}:{name}"))
    cut = [mean([float(not sample.ended) for sample in samples]) for samples in groups]
    return Measured(rewards, figures | {"cut_off": mean(cut)})


def change(before: Measured, after: Measured, seed: int) -> dict[str, Any]:
    """The mean change of a prompt's reward with its interval, and the paired two-sided p of none.

    The p is of a sign-flip test over prompts (`significance.sign_flip_p`).
    """
    values = [new - old for old, new in zip(before.rewards, after.rewards, strict=True)]
    p = sign_flip_p(values, range(len(values)), f"{seed}:change")
    return {"change": to_jsonable_python(mean_of(values, f"{seed}:change")), "p": p}


def rose(changed: dict[str, Any], level: float) -> bool:
    """Whether the reward rose beyond chance."""
    return bool(changed["change"]["value"] > 0 and changed["p"] < level)
