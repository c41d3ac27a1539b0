"""Rate completions from 1 to 10 under a constitution and use the rating as the reward: direct RLAIF.

After arXiv 2309.00267, section 2.3. Deviates from it in asking under one principle at a time, one drawn or
all of them as `label.principles` says, and in refusing a judge whose answer is probably no rating at all.
Ratings are averaged by weight whatever `label.rule` is, which decides between two answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from constitute.config import LabelConfig, RunConfig
from constitute.constitution.identity import constitution_hash
from constitute.constitution.read import load_constitution
from constitute.engines import open_when_asked
from constitute.engines.base import Engine
from constitute.errors import Abstain, DataError, RowError, UsageError
from constitute.packaged import model_path
from constitute.pipeline.question import derive_seed
from constitute.stages.base import Sample
from constitute.stages.labels.adaptive import voters
from constitute.stages.labels.rating import RATINGS, expected_rating, score_turn
from constitute.stages.labels.read import read
from constitute.templates import template_hash
from constitute.train.common.artefact import model_identity
from constitute.train.rewards.parts import Opening, RewardFunction
from constitute.types import Choice, Completion, Constitution, Principle, Prompt, Request, Score
from constitute.urls import is_url

_MIDDLE, _HALF = 5.5, 4.5


@dataclass(frozen=True)
class Judge:
    """Who rates and under what; `identity` stands for all that decides a rating.

    `engine` is None where another process asks.
    """

    engine: Engine | None
    constitution: Constitution
    identity: str


def is_judge(source: str) -> bool:
    """Whether a text is `judge`, or `judge:CONSTITUTION` for one that is not the run's."""
    return source == "judge" or source.startswith("judge:")


def judge_name(source: str) -> str:
    """What the metrics call it: `judge`, or the name of its constitution without folder and ending."""
    return PurePath(source.partition(":")[2]).stem or "judge"


def open_judge_reward(source: str, opening: Opening) -> tuple[RewardFunction, str]:
    """A function that has the run's judge rate each completion, and the judge's identity.

    All judges of a run are one engine; `judge:CONSTITUTION` rates under a constitution of its own, whole.
    """
    config, own = opening.config, source.partition(":")[2]
    if own:
        config = config.model_copy(update={"constitution": own, "tags": ()})
    judge = open_judge(config, asks=opening.asks, judges=opening.judges)
    engine = judge.engine
    if engine is not None and engine not in opening.judges.values():
        opening.judges[judging_model(config)] = engine
        opening.closing.callback(lambda: opening.runner.run(engine.close()))

    def rewards(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        assert engine is not None, "this process said that it never asks"
        return opening.runner.run(
            judge_rewards(
                prompts, completions, engine, judge.constitution, config.label, config.engine.in_flight
            )
        )

    return rewards, judge.identity


def judging_model(config: RunConfig) -> str:
    """The model that judges; raises `UsageError` where none is named."""
    name = config.judge or config.model
    if name is None:
        raise UsageError("the reward 'judge' needs a model that judges; name one with --judge")
    return name


def open_judge(config: RunConfig, *, asks: bool = True, judges: Mapping[str, Engine] | None = None) -> Judge:
    """The judge with an engine of its own: `config.judge`, else `config.model` as it was before training.

    One of `judges`, which are open, by their model, is taken in the place of a new engine. Weights here are
    run by transformers: a second vLLM engine would compete with the rollouts' for the memory of the device.
    Raises `UsageError` where the model or the constitution is missing.
    """
    name = judging_model(config)
    if config.constitution is None:
        raise UsageError("the reward 'judge' needs a constitution; name one with --constitution")
    constitution = load_constitution(config.constitution, config.tags)
    kind = config.engine.kind
    if kind in ("auto", "vllm", "transformers", "openai"):
        kind = "auto" if is_url(name) else "transformers"
    settings = config.engine.model_copy(update={"kind": kind})
    engine = (judges or {}).get(name)
    if engine is None and (asks or is_url(name)):
        engine = open_when_asked(name, settings)
    # A server's URL does not say what is behind it; the server does.
    model = (
        engine.identity.model_dump_json()
        if engine is not None and is_url(name)
        else model_identity(model_path(name))
    )
    return Judge(engine, constitution, judge_identity(model, constitution, config.label))


def judge_identity(model: str, constitution: Constitution, cfg: LabelConfig) -> str:
    """What decides a rating, hashed: the judge's weights, the constitution, the draw and the words."""
    asked = [model, constitution_hash(constitution), str(cfg.principles), template_hash("score"), cfg.votes]
    if cfg.votes == "sampled":
        asked.append(str(cfg.samples))
    return f"judge:{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}"


async def judge_rewards(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    engine: Engine,
    constitution: Constitution,
    cfg: LabelConfig,
    in_flight: int,
) -> list[float]:
    """The `judge_ratings` of all completions.

    Raises `DataError` naming the first row that cannot be rated, and how many there are; none gets a default.
    """
    rated = await judge_ratings(prompts, completions, engine, constitution, cfg, in_flight)
    unrated = [(p.id, why) for p, why in zip(prompts, rated, strict=True) if isinstance(why, str)]
    if unrated:
        name, why = unrated[0]
        raise DataError(
            f"the judge {engine.identity.name} could not rate {len(unrated)} of {len(rated)} responses, the "
            f"first to prompt {name!r}: {why}; take a --judge that answers with a rating, then run the same "
            "command to go on from the last checkpoint"
        )
    return [float(rating) for rating in rated]


async def judge_ratings(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    engine: Engine,
    constitution: Constitution,
    cfg: LabelConfig,
    in_flight: int,
) -> list[float | str]:
    """A reward in [-1, 1] for each completion, the weighted mean of its ratings, or why there is none.

    One rating a principle. Principles are drawn by the prompt's id, so that all samples of a prompt are rated
    alike.
    """
    sample = _Direct(engine, in_flight)

    async def row(prompt: Prompt, completion: Completion) -> float | str:
        asked = voters(prompt.id, cfg, constitution)
        questions = [_rate(prompt, completion, p, sample, cfg) for p, _ in asked]
        found = await asyncio.gather(*questions)
        reasons = [rating for rating in found if isinstance(rating, str)]
        if reasons:
            return reasons[0]
        total = math.fsum(weight for _, weight in asked)
        pairs = zip(asked, found, strict=True)
        return math.fsum(weight * float(rating) for (_, weight), rating in pairs) / total

    return list(await asyncio.gather(*(row(p, c) for p, c in zip(prompts, completions, strict=True))))


class _Direct:
    """The `Sample` of an engine without a store: at most so many questions at once, nothing kept."""

    def __init__(self, engine: Engine, in_flight: int) -> None:
        self._engine = engine
        self._gate = asyncio.Semaphore(in_flight)

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        text = "\n".join(message.content for message in request.messages)
        sampling = request.sampling.model_copy(update={"seed": derive_seed("judge", step, text, index)})
        async with self._gate:
            return await self._engine.generate(request.model_copy(update={"sampling": sampling}))

    async def choose(
        self,
        request: Request,
        labels: Sequence[str],
        *,
        step: str,
        principle: Principle | None = None,
        spelled: bool = False,
    ) -> Choice:
        async with self._gate:
            return await self._engine.choose(request, labels, spelled=spelled)

    async def score(
        self, request: Request, text: str, *, step: str, principle: Principle | None = None
    ) -> Score:
        async with self._gate:
            return await self._engine.score(request, text)


async def _rate(
    prompt: Prompt, completion: Completion, principle: Principle, sample: Sample, cfg: LabelConfig
) -> float | str:
    """The reward under one principle, or why there is none."""
    asked = (score_turn(prompt, completion.text, principle), "rate", principle)
    try:
        return reward_of((await read(sample, asked, RATINGS, cfg, f"under {principle.id}")).shares)
    except (RowError, Abstain) as problem:
        return str(problem)


def reward_of(shares: Sequence[float]) -> float:
    """The mean rating, moved from [1, 10] to [-1, 1] (section 2.3)."""
    return (expected_rating(shares) - _MIDDLE) / _HALF
