"""Best-of-n: sample n completions of each prompt and keep the one with the greatest reward.

The kept ones are rows for supervised fine-tuning (rejection sampling, arXiv 2307.09288, section 3.2.3).
Best-of-n as a policy is at most ln n - (n - 1)/n nats from the model sampled (arXiv 2009.01325, G.3).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from constitute.config import RunConfig
from constitute.config.train import BestOfNConfig
from constitute.engines.base import Engine
from constitute.engines.render import RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.errors import DataError, RunMismatch
from constitute.files import append_log, read_json
from constitute.progress import Progress, Silent
from constitute.stages.generate import conversation
from constitute.stats import mean
from constitute.threads import use_threads
from constitute.train.best_of_n.choice import (
    BEST,
    SAMPLES,
    SampledCompletion,
    argmax,
    choose,
    read_samples,
    shortfall,
)
from constitute.train.common import _compat
from constitute.train.common.artefact import check_recipe, recipe, tell_finished, write_record
from constitute.train.common.batching import Batching
from constitute.train.common.from_run import (
    keep_settings,
    on_one_day,
    policy_of,
    rendered_prompts,
    sampling_engine,
)
from constitute.train.common.lora import note_rate
from constitute.train.common.precision import held_dtype
from constitute.train.common.rollout import Rollouts, gather
from constitute.train.ppo.setup import input_hashes
from constitute.train.ppo.sync import Rollouter
from constitute.train.reward.model import open_reward_model
from constitute.train.rewards.parts import Reward, RewardPart, as_parts, values_of
from constitute.train.rewards.sources import GivenRewards, open_rewards
from constitute.train.rewards.trust import check_rewards
from constitute.train.rewards.welfare import Welfare, check_welfare, total_rewards
from constitute.train.sft import train_sft
from constitute.types import Prompt, SamplingParams

RECORD = "best_of_n.json"
_STAGE = "best of n"
_SUM = Welfare()


@dataclass(frozen=True)
class Sampling:
    """What samples and scores completions: the policy and its engine, the rewards, settings and listener."""

    policy: str
    parts: tuple[RewardPart, ...]
    engine: Rollouter
    config: BestOfNConfig
    seed: int
    progress: Progress
    welfare: Welfare = _SUM


def run_best_of_n(
    config: RunConfig,
    prompts: Sequence[Prompt],
    *,
    model: str | None = None,
    reward: GivenRewards | None = None,
    n: int | None = None,
    out: Path | None = None,
    sft: bool = False,
    engine: Engine | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Sample `n` completions of each prompt from `model` (RUN/sft, else `config.model`); keep the best.

    `reward` is one source or several (see `rewards.sources`); without it `train.ppo.rewards`, else
    RUN/reward; `train.ppo.welfare` makes several one. Writes samples.jsonl and best.jsonl to `out`
    (RUN/best-of-n); with `sft`, fine-tunes the model on the latter into `out`/sft. `engine`, where given,
    samples and is left open. Returns the summary.
    Raises `GateFailed` for a reward model that is not shown to be better than chance, unless `force`.
    """
    policy, folder, progress = policy_of(config, model), out or config.run / "best-of-n", progress or Silent()
    use_threads(policy, config.engine.threads)
    if sft:
        note_rate(config.train.sft, "sft", progress)
    settings = config.train.best_of_n
    settings = settings if n is None else settings.model_copy(update={"n": n})
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
        summary = sample_best(
            kept,
            ids,
            policy,
            parts,
            folder,
            settings,
            engine=used,
            seed=config.seed,
            progress=progress,
            welfare=Welfare.of(config.train.ppo),
        )
    if lacking := shortfall(summary, settings.max_new_tokens):
        progress.note(lacking)
    if out is None:
        keep_settings(config, "best_of_n")
    summary = summary | {"prompts_refused": len(prompts) - len(kept)}
    return summary | {"sft": _tuned(summary, policy, folder, config, progress)} if sft else summary


def _tuned(
    summary: dict[str, Any], policy: str, folder: Path, config: RunConfig, progress: Progress
) -> dict[str, Any]:
    """Fine-tune the model on the best into `folder`/sft. Raises `DataError` where there is none."""
    if summary["prompts_failed"] == summary["prompts"]:
        raise DataError(
            f"{folder / BEST} is empty: no completion of any prompt ended within "
            f"{config.train.best_of_n.max_new_tokens} tokens; raise train.best_of_n.max_new_tokens"
        )
    return train_sft(
        folder / BEST,
        policy,
        folder / "sft",
        config.train.sft,
        seed=config.seed,
        progress=progress,
        kind="best-of-n",
        rendering=RenderSettings.of(config.engine),
        footprint=config.train.footprint,
    )


def sample_best(
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    policy: str,
    reward: Reward,
    out: Path,
    config: BestOfNConfig,
    *,
    engine: Rollouter,
    seed: int,
    progress: Progress,
    welfare: Welfare = _SUM,
) -> dict[str, Any]:
    """Sample, score and choose; writes samples.jsonl and best.jsonl to `out` and returns the summary.

    `prompt_ids` are the prompts as the engine renders them. Prompts already in samples.jsonl are not
    sampled again. A prompt none of whose completions may be the best has failed: it is counted and has no
    row. Raises `UsageError`, `DataError`, `EngineError`, `StorageError`, and `RunMismatch` where `out`
    holds samples of another recipe.
    """
    parts = as_parts(reward)
    check_welfare(welfare, parts)
    inputs = input_hashes(prompt_ids, policy, parts, None)
    if welfare.identity:
        inputs["welfare"] = welfare.identity
    made_by = recipe("best-of-n", config, seed, **inputs)
    summary = _opened(out, made_by)
    if summary is not None:
        return summary
    start = time.perf_counter()
    kept = _fitting(prompts, prompt_ids, getattr(engine, "context_length", None), config)
    done = _resumed(out / SAMPLES, config.n)
    progress.start(_STAGE, len(kept), done)
    if done < len(kept):
        by = Sampling(policy, parts, engine, config, seed, progress, welfare)
        _sample_all(kept, done, out / SAMPLES, by)
    progress.finish(_STAGE)
    summary = choose(out, [prompt for prompt, _ in kept], config.n, seed)
    summary |= {
        "prompts_too_long": len(prompts) - len(kept),
        "prompts_sampled_before": done,
        "seconds": round(time.perf_counter() - start, 3),
    }
    write_record(out / RECORD, made_by, summary)
    return summary


def _sample_all(kept: Sequence[tuple[Prompt, list[int]]], done: int, path: Path, by: Sampling) -> None:
    """Sample and score the prompts after the first `done`, and add their lines to `path` batch by batch."""
    _compat.quiet()
    config, tokenizer = by.config, load_tokenizer(by.policy)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = held_dtype(trained=False)
    scorers = {
        part.name: open_reward_model(part.source, tokenizer, by.policy, dtype, device)
        if isinstance(part.source, str)
        else part.source
        for part in by.parts
    }
    ends = turn_ends(by.policy, tokenizer)
    batching = Batching(tokenizer.pad_token_id or 0, config.microbatch_tokens)
    step = max(1, config.batch_size // config.n)
    base = int.from_bytes(hashlib.sha256(f"{by.seed}:best-of-n".encode()).digest()[:6], "big")
    chosen = _chosen_before(path, config.n)
    for start in range(done, len(kept), step):
        rows = [row for row in kept[start : start + step] for _ in range(config.n)]
        prompts, ids = [prompt for prompt, _ in rows], [ids for _, ids in rows]
        # Row i is seeded with seed + i, so a sample depends on its place alone, not on the batch.
        sampling = SamplingParams(
            max_tokens=config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            seed=base + start * config.n,
        )
        completions = by.engine.generate_ids(ids, sampling, logprobs=False)
        rollouts = gather(prompts, ids, completions, ends, device)
        values = {name: values_of(scorer, name, rollouts, batching) for name, scorer in scorers.items()}
        total = total_rewards(by.parts, values, by.welfare, prompts)
        lines = _lines(rollouts, values, total, config.n)
        append_log(path, [row.model_dump_json() for row in lines])
        by.progress.tokens(_STAGE, sum(len(completion.token_ids) for completion in completions))
        for place in range(0, len(rows), config.n):
            best = argmax(lines[place : place + config.n])
            chosen += [] if best is None else [best.score]
            by.progress.advance(
                _STAGE,
                "failed" if best is None else "ok",
                **({"chosen score": mean(chosen)} if chosen else {}),
            )


def _chosen_before(path: Path, n: int) -> list[float]:
    """The scores of the completions that are the best of samples drawn earlier."""
    if not path.is_file():
        return []
    stored, found = read_samples(path), []
    while samples := list(islice(stored, n)):
        if (best := argmax(samples)) is not None:
            found.append(best.score)
    return found


def _lines(
    rollouts: Rollouts, values: dict[str, list[float]], total: Sequence[float], n: int
) -> list[SampledCompletion]:
    return [
        SampledCompletion(
            prompt_id=rollouts.prompts[row].id,
            sample=row % n,
            text=completion.text,
            tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason,
            ended=rollouts.ended[row],
            scores={name: column[row] for name, column in values.items()},
            score=total[row],
        )
        for row, completion in enumerate(rollouts.completions)
    ]


def _fitting(
    prompts: Sequence[Prompt], prompt_ids: Sequence[Sequence[int]], limit: int | None, config: BestOfNConfig
) -> list[tuple[Prompt, list[int]]]:
    """The prompts that leave room for a whole completion. Raises `DataError` where there are none."""
    room = None if limit is None else limit - config.max_new_tokens
    pairs = zip(prompts, prompt_ids, strict=True)
    kept = [(prompt, list(ids)) for prompt, ids in pairs if room is None or len(ids) <= room]
    if not kept:
        raise DataError(
            "there are no prompts to sample"
            if not prompts
            else f"no prompt leaves room for {config.max_new_tokens} new tokens in a context of {limit}; "
            "lower train.best_of_n.max_new_tokens or raise engine.context_length"
        )
    return kept


def _opened(out: Path, made_by: dict[str, Any]) -> dict[str, Any] | None:
    """The summary if `made_by` is finished; else None, and its record is written. Raises `RunMismatch`."""
    record = out / RECORD
    if record.is_file():
        stored = read_json(record)
        check_recipe(out, stored["made_by"], made_by)
        done: dict[str, Any] | None = stored["summary"]
        if done is not None:
            tell_finished(out, "sampled")
        return done
    if (out / SAMPLES).exists():
        raise RunMismatch(f"{out} holds a {SAMPLES}, and nothing says what made it; give another --out")
    write_record(record, made_by, None)
    return None


def _resumed(path: Path, n: int) -> int:
    """Number of prompts whose n samples are all in the file; what a killed run left after them is cut off."""
    if not path.is_file():
        return 0
    done = end = place = 0
    with path.open("rb+") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            place += len(line)
            if number % n == 0:
                done, end = number // n, place
        file.truncate(end)
    return done
