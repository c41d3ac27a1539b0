"""Quark: sample under the best reward token, sort all samples into quantiles, learn each under its token.

arXiv 2205.13636: exploration, quantisation and learning in rounds, with the exact KL of each token from the
model at the start, which sees no token. Deviates: each round goes through the pool with an optimizer of its
own; equal rewards share a token, so that none is learned under two; a response that the
limit cut off is left out, for it has no end to learn; the entropy bonus of the authors' code is left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.engines.base import Engine
from constitute.errors import DataError
from constitute.files import read_json
from constitute.progress import Progress, Silent
from constitute.stages.generate import conversation
from constitute.threads import use_threads
from constitute.train.answers import Rewards, open_answers
from constitute.train.best_of_n.choice import shortfall
from constitute.train.common import sharding
from constitute.train.common.artefact import (
    check_recipe,
    finished,
    model_identity,
    publish,
    recipe,
    tell_finished,
    write_record,
)
from constitute.train.common.from_run import (
    keep_settings,
    on_one_day,
    policy_of,
    rendered_prompts,
    sampling_engine,
)
from constitute.train.common.lora import note_rate
from constitute.train.common.precision import saved_dtype
from constitute.train.common.team import gather_team
from constitute.train.imitation.control import reward_tokens
from constitute.train.imitation.pool import KIND, Learner, Sample, digest, samples_of
from constitute.train.imitation.rounds import Asked, Sampler, change, measure, split_prompts
from constitute.train.imitation.start import saving, start_actor
from constitute.train.ppo.setup import input_hashes
from constitute.train.rewards.parts import RewardFunction, RewardPart
from constitute.train.rewards.sources import GivenRewards, open_rewards
from constitute.train.rewards.trust import check_rewards
from constitute.train.rewards.welfare import Welfare
from constitute.types import Completion, Prompt

_RECORD = "rounds.json"


def run_quark(
    config: RunConfig,
    prompts: Sequence[Prompt],
    *,
    model: str | None = None,
    reward: GivenRewards | None = None,
    out: Path | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Train `model` (RUN/sft, else `config.model`) in rounds of Quark under `out` (RUN/quark).

    `reward` is as in best-of-n. OUT/start is the model with its reward tokens, OUT/round-k holds the samples
    of a round and the policy that learned from all so far; its chat template writes the best token. `engine`,
    where given, holds OUT/start. The same command goes on where it stopped. Returns the summary: the reward
    of each round on prompts that are never learned from, and `policy`, the folder of the last. Raises
    `GateFailed` for a reward model not shown to be better than chance, unless `force`.
    """
    policy, folder, progress = policy_of(config, model), out or config.run / KIND, progress or Silent()
    use_threads(policy, config.engine.threads)
    note_rate(config.train.conditioned, "conditioned", progress)
    start = with_tokens(policy, folder / "start", config, progress)
    asked = [
        prompt.model_copy(update={"messages": conversation(prompt, config.generate.system)})
        for prompt in prompts
    ]
    with ExitStack() as opening_them:
        config = opening_them.enter_context(on_one_day(config, folder))
        wanted = config.train.ppo.rewards if reward is None else reward
        parts = opening_them.enter_context(open_rewards(config, wanted))
        check_rewards(parts, progress, force=force)
        texts = tuple(by_text(part, config, opening_them, progress) for part in parts)
        used = opening_them.enter_context(sampling_engine(config, start, engine, progress))
        kept, ids = rendered_prompts(asked, "", used, progress)
        welfare = Welfare.of(config.train.ppo)
        sampler = Sampler(used, start, texts, config.train.best_of_n, progress, welfare)
        fits = with_room(Asked(kept, ids), used.context_length, config.train.best_of_n.max_new_tokens)
        summary = iterate(fits, start, folder, config, sampler)
    if out is None:
        keep_settings(config, KIND)
    counts = {"prompts_too_long": len(kept) - len(fits.prompts), "prompts_refused": len(prompts) - len(kept)}
    return summary | counts


def with_room(asked: Asked, limit: int | None, new_tokens: int) -> Asked:
    """The prompts that leave room for a reward token and a whole response in a context of `limit` tokens."""
    fits = [limit is None or len(ids) + 1 + new_tokens <= limit for ids in asked.ids]
    return Asked(
        [prompt for prompt, kept in zip(asked.prompts, fits, strict=True) if kept],
        [ids for ids, kept in zip(asked.ids, fits, strict=True) if kept],
    )


def with_tokens(policy: str, out: Path, config: RunConfig, progress: Progress) -> str:
    """Save the model `policy` with its reward tokens to `out`, once; returns the folder."""
    settings = config.train.quark
    made_by = recipe(
        KIND,
        settings.model_copy(update={"rounds": 1}),
        config.seed,
        model=model_identity(policy),
        **config.train.footprint.inputs,
    )
    if finished(out, made_by, tell=False) is None:
        with progress.waiting(f"adding {settings.quantiles} reward tokens to {policy}"):
            tokens = reward_tokens(settings.quantiles)
            actor, tokenizer = start_actor(policy, tokens, 0, config.seed, gather_team())
            network = sharding.whole_model(actor.model, saved_dtype(config.train.save_dtype, policy))
            save = saving(network, tokenizer, str(tokenizer.get_chat_template()), [])
            publish(out, save, made_by=made_by, summary={}, base=policy)
    return str(out)


def by_text(part: RewardPart, config: RunConfig, closing: ExitStack, progress: Progress) -> RewardPart:
    """The part, asked by texts: a reward model reads them with its own tokenizer, without reward tokens.

    Its score is then the raw one, as `evals reward` gives it.
    """
    if not isinstance(part.source, str):
        return part
    scorer = closing.enter_context(open_answers(config, part.source, progress=progress))
    identity = part.identity or model_identity(part.source)
    return replace(part, source=_texts(scorer.rewards, part.name), identity=identity)


def _texts(rewards: Rewards, name: str) -> RewardFunction:
    def values(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        found = []
        for prompt, one in zip(prompts, rewards(prompts, [c.text for c in completions]), strict=True):
            if one.value is None:
                raise DataError(
                    f"{name} gives no reward for the response to prompt {prompt.id!r}: {one.reason}"
                )
            found.append(one.value)
        return found

    return values


def iterate(asked: Asked, start: str, out: Path, config: RunConfig, sampler: Sampler) -> dict[str, Any]:
    """Go through the rounds from the model in `start`; returns the summary, which rounds.json keeps."""
    settings, seed, begun = config.train.quark, config.seed, time.perf_counter()
    made_by = recipe(
        KIND,
        settings,
        seed,
        **input_hashes(asked.ids, start, sampler.parts, None),
        **sampler.inputs,
        best_of_n=digest(config.train.best_of_n.model_dump_json()),
        conditioned=digest(config.train.conditioned.model_dump_json()),
        **config.train.footprint.inputs,
    )
    record = out / _RECORD
    if record.is_file():
        stored = read_json(record)
        check_recipe(out, stored["made_by"], made_by)
        if stored["summary"] is not None:
            done: dict[str, Any] = stored["summary"]
            tell_finished(out, "trained")
            return done
    write_record(record, made_by, None)
    learner = Learner.of(start, config, sampler.progress)
    learnt, held = split_prompts(asked, settings.held_out, seed)
    n = config.train.best_of_n.n
    sampler.sample(start, held, out / "round-0" / "held-out", seed)
    measured = measure(out / "round-0" / "held-out", n, seed)
    figures: dict[str, dict[str, Any]] = {"round 0": measured.figures}
    policy, pool = start, list[Sample]()
    for number in range(1, settings.rounds + 1):
        folder = out / f"round-{number}"
        # The model at the start knows no token yet.
        asked_now = learnt if number == 1 else learner.best(learnt)
        sampled = sampler.sample(policy, asked_now, folder, seed + number)
        if lacking := shortfall(sampled, config.train.best_of_n.max_new_tokens):
            sampler.progress.note(f"round {number}: {lacking}")
        found, left_out = samples_of(folder, learnt.prompts, n)
        pool += found
        policy, learned = learner.learn(policy, pool, folder / "policy")
        sampler.sample(policy, learner.best(held), folder / "held-out", seed)
        now = measure(folder / "held-out", n, seed)
        figures[f"round {number}"] = {
            **now.figures,
            **change(measured, now, seed),
            "pool": len(pool),
            "samples_left_out": left_out,
            "prompts_failed": sampled["prompts_failed"],
            **learned,
        }
        sampler.progress.note(f"round {number}: reward {now.figures['reward']['value']:.4g}")
        measured = now
    summary = {
        "prompts": len(learnt.prompts),
        "prompts_held_out": len(held.prompts),
        "rounds": figures,
        "policy": policy,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    write_record(record, made_by, summary)
    return summary
