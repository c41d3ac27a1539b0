"""Expert iteration: sample, keep the best of n, fine-tune on them, and again from what came of it.

arXiv 1705.08439 in the form that arXiv 2305.14387 (section 3.3) gives it for instructions, with several
rounds as in arXiv 2312.06585. Deviates: the loop ends where the reward on prompts that are never trained
on no longer rises beyond chance, and the policy before that round is the result.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.engines.base import Engine
from constitute.engines.render import RenderSettings
from constitute.errors import DataError
from constitute.files import read_json
from constitute.progress import Progress, Silent
from constitute.stages.generate import conversation
from constitute.threads import use_threads
from constitute.train.best_of_n.choice import BEST, shortfall
from constitute.train.common.artefact import check_recipe, recipe, tell_finished, write_record
from constitute.train.common.from_run import (
    keep_settings,
    on_one_day,
    policy_of,
    rendered_prompts,
    sampling_engine,
)
from constitute.train.common.lora import note_rate
from constitute.train.imitation.rounds import Asked, Measured, Sampler, change, measure, rose, split_prompts
from constitute.train.ppo.setup import input_hashes
from constitute.train.rewards.sources import GivenRewards, open_rewards
from constitute.train.rewards.trust import check_rewards
from constitute.train.rewards.welfare import Welfare
from constitute.train.sft import train_sft
from constitute.types import Prompt

_KIND = "expert-iteration"
_RECORD = "rounds.json"


def run_expert_iteration(
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
    """Improve `model` (RUN/sft, else `config.model`) in rounds under `out` (RUN/expert-iteration).

    `reward` is as in best-of-n. OUT/round-k holds the samples that round k learned from, the model that came
    of it (sft) and samples of that model for the held-out prompts; rounds.json the figures. The same command
    goes on where it stopped. Returns the summary: the reward of each round, and `policy`, the folder of the
    best. Raises `GateFailed` for a reward model not shown to be better than chance, unless `force`.
    """
    policy, folder, progress = policy_of(config, model), out or config.run / _KIND, progress or Silent()
    use_threads(policy, config.engine.threads)
    note_rate(config.train.sft, "sft", progress)
    asked = [
        prompt.model_copy(update={"messages": conversation(prompt, config.generate.system)})
        for prompt in prompts
    ]
    with ExitStack() as opened:
        config = opened.enter_context(on_one_day(config, folder))
        wanted = config.train.ppo.rewards if reward is None else reward
        parts = opened.enter_context(open_rewards(config, wanted))
        check_rewards(parts, progress, force=force)
        used = opened.enter_context(sampling_engine(config, policy, engine, progress))
        kept, ids = rendered_prompts(asked, "", used, progress)
        welfare = Welfare.of(config.train.ppo)
        sampler = Sampler(used, policy, parts, config.train.best_of_n, progress, welfare)
        summary = iterate(Asked(kept, ids), policy, folder, config, sampler)
    if out is None:
        keep_settings(config, "expert_iteration")
    return summary | {"prompts_refused": len(prompts) - len(kept)}


@dataclass(frozen=True)
class _Loop:
    """What every round uses: the model at the start, the folder, settings and the sampler."""

    first: str
    out: Path
    config: RunConfig
    sampler: Sampler


@dataclass
class _State:
    """The best policy so far, what it earns, and the figures of the rounds."""

    policy: str
    measured: Measured
    figures: dict[str, dict[str, Any]]
    stopped: str = ""


def iterate(asked: Asked, policy: str, out: Path, config: RunConfig, sampler: Sampler) -> dict[str, Any]:
    """Go through the rounds from `policy`; returns the summary, which rounds.json keeps.

    Raises `RunMismatch` where `out` holds rounds of another recipe, and `DataError` where a round has
    nothing to learn from.
    """
    settings, seed = config.train.expert_iteration, config.seed
    made_by = recipe(
        _KIND,
        settings,
        seed,
        **input_hashes(asked.ids, policy, sampler.parts, None),
        **sampler.inputs,
        best_of_n=_digest(config.train.best_of_n.model_dump_json()),
        sft=_digest(config.train.sft.model_dump_json()),
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
    start = time.perf_counter()
    learnt, held = split_prompts(asked, settings.held_out, seed)
    n = config.train.best_of_n.n
    sampler.sample(policy, held, out / "round-0" / "held-out", seed)
    measured = measure(out / "round-0" / "held-out", n, seed)
    state = _State(policy, measured, {"round 0": measured.figures})
    loop = _Loop(policy, out, config, sampler)
    for number in range(1, settings.rounds + 1):
        if not _round(loop, state, number, learnt, held):
            break
    summary = {
        "prompts": len(learnt.prompts),
        "prompts_held_out": len(held.prompts),
        "rounds": state.figures,
        "stopped": state.stopped or f"all {settings.rounds} rounds are done",
        "policy": state.policy,
        "seconds": round(time.perf_counter() - start, 3),
    }
    write_record(record, made_by, summary)
    return summary


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _round(loop: _Loop, state: _State, number: int, learnt: Asked, held: Asked) -> bool:
    """One round: sample from the best policy, fine-tune, measure. Returns whether another is worth it."""
    config, sampler = loop.config, loop.sampler
    settings, seed, folder = config.train.expert_iteration, config.seed, loop.out / f"round-{number}"
    # Each round draws anew; the held-out prompts are sampled with the same seeds, which pairs them.
    chosen = sampler.sample(state.policy, learnt, folder, seed + number)
    if chosen["prompts_failed"] == chosen["prompts"]:
        raise DataError(
            f"{folder / BEST} is empty: no completion of any prompt ended within "
            f"{config.train.best_of_n.max_new_tokens} tokens; raise train.best_of_n.max_new_tokens"
        )
    if lacking := shortfall(chosen, config.train.best_of_n.max_new_tokens):
        sampler.progress.note(f"round {number}: {lacking}")
    tuned = folder / "sft"
    train_sft(
        folder / BEST,
        state.policy if settings.start == "last" else loop.first,
        tuned,
        config.train.sft,
        seed=seed,
        progress=sampler.progress,
        kind=_KIND,
        rendering=RenderSettings.of(config.engine),
        footprint=config.train.footprint,
    )
    sampler.sample(str(tuned), held, folder / "held-out", seed)
    measured = measure(folder / "held-out", config.train.best_of_n.n, seed)
    changed = change(state.measured, measured, seed)
    better = settings.level is None or rose(changed, settings.level)
    state.figures[f"round {number}"] = {
        **measured.figures,
        **changed,
        "learned_from": chosen["prompts"] - chosen["prompts_failed"],
        "prompts_failed": chosen["prompts_failed"],
        "kept": better,
    }
    words = f"round {number}: reward {measured.figures['reward']['value']:.4g}, p = {changed['p']:.2g}"
    sampler.progress.note(words + ("" if better else "; it no longer rises, so the loop ends"))
    if not better:
        state.stopped = f"the reward no longer rose in round {number} (p = {changed['p']:.2g})"
        return False
    state.policy, state.measured = str(tuned), measured
    return True
