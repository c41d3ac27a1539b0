"""Best-of-n: sample n completions of each prompt and keep the one with the greatest reward.

The kept ones are rows for supervised fine-tuning (rejection sampling, arXiv 2307.09288, section 3.2.3).
Best-of-n as a policy is at most ln n - (n - 1)/n nats from the model sampled (arXiv 2009.01325, G.3).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from constitute.config.train import BestOfNConfig
from constitute.errors import DataError, RunMismatch, StorageError
from constitute.progress import Progress
from constitute.train.best_of_n.choice import SAMPLES, Sampled, choose
from constitute.train.common import _compat
from constitute.train.common.artefact import check_recipe, recipe, versions, write_json
from constitute.train.common.rollout import Rollouts, gather
from constitute.train.ppo.setup import input_hashes
from constitute.train.ppo.sync import Rollouter
from constitute.train.rewards.total import Reward, RewardPart, as_parts, values_of, weighted_sum
from constitute.types import Completion, Prompt, SamplingParams

_RECORD = "best_of_n.json"


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
) -> dict[str, Any]:
    """Sample, score and choose; writes samples.jsonl and best.jsonl to `out` and returns the summary.

    `prompt_ids` are the prompts as the engine renders them. Prompts already in samples.jsonl are not
    sampled again. A prompt none of whose completions may be the best has failed: it is counted and has no
    row. Raises `UsageError`, `DataError`, `EngineError`, `StorageError`, and `RunMismatch` where `out`
    holds samples of another recipe.
    """
    parts = as_parts(reward)
    made_by = recipe("best-of-n", config, seed, **input_hashes(prompt_ids, policy, parts, None))
    record = out / _RECORD
    summary = _opened(out, made_by)
    if summary is not None:
        return summary
    start = time.perf_counter()
    kept = _fitting(prompts, prompt_ids, getattr(engine, "context_length", None), config)
    done = _resumed(out / SAMPLES, config.n)
    progress.start("best of n", len(kept), done)
    if done < len(kept):
        _sample_all(kept, done, policy, parts, out / SAMPLES, config, engine, seed, progress)
    progress.finish("best of n")
    summary = choose(out, [prompt for prompt, _ in kept], config.n, seed)
    summary |= {
        "prompts_too_long": len(prompts) - len(kept),
        "prompts_sampled_before": done,
        "seconds": round(time.perf_counter() - start, 3),
    }
    write_json(record, {"made_by": made_by, "versions": versions(), "summary": summary})
    return summary


def _sample_all(
    kept: Sequence[tuple[Prompt, list[int]]],
    done: int,
    policy: str,
    parts: Sequence[RewardPart],
    path: Path,
    config: BestOfNConfig,
    engine: Rollouter,
    seed: int,
    progress: Progress,
) -> None:
    import torch

    from constitute.engines.tokenizer import load_tokenizer
    from constitute.train.reward.scorer import open_reward_model

    _compat.quiet()
    tokenizer = load_tokenizer(policy)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    scorers = {
        part.name: open_reward_model(part.source, tokenizer, policy, dtype, device)
        if isinstance(part.source, str)
        else part.source
        for part in parts
    }
    ends, pad_id = _ends(policy, tokenizer), tokenizer.pad_token_id or 0
    step = max(1, config.batch_size // config.n)
    base = int.from_bytes(hashlib.sha256(f"{seed}:best-of-n".encode()).digest()[:6], "big")
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
        completions = engine.generate_ids(ids, sampling, logprobs=False)
        rollouts = gather(prompts, ids, completions, ends, device)
        values = {
            name: values_of(scorer, name, rollouts, pad_id, config.microbatch_tokens)
            for name, scorer in scorers.items()
        }
        total = weighted_sum(parts, values)
        _append(path, _lines(rollouts, completions, values, total, config.n))
        progress.tokens("best of n", sum(len(completion.token_ids) for completion in completions))
        for place in range(0, len(rows), config.n):
            progress.advance("best of n", best=max(total[place : place + config.n]))


def _lines(
    rollouts: Rollouts,
    completions: Sequence[Completion],
    values: dict[str, list[float]],
    total: Sequence[float],
    n: int,
) -> list[Sampled]:
    return [
        Sampled(
            prompt_id=rollouts.prompts[row].id,
            sample=row % n,
            text=completion.text,
            tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason,
            ended=rollouts.ended[row],
            scores={name: column[row] for name, column in values.items()},
            score=total[row],
        )
        for row, completion in enumerate(completions)
    ]


def _ends(policy: str, tokenizer: Any) -> frozenset[int]:
    """All ids that end a turn of `policy`, read from its configurations alone."""
    from transformers import AutoConfig, GenerationConfig

    from constitute.engines.tokenizer import eos_ids

    configs = [AutoConfig.from_pretrained(policy, trust_remote_code=False)]
    with suppress(OSError):
        configs.append(GenerationConfig.from_pretrained(policy))
    return eos_ids(tokenizer, *configs)


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
    """The summary if `made_by` has been through, else None with its record written. `RunMismatch`."""
    record = out / _RECORD
    if record.is_file():
        stored = json.loads(record.read_text(encoding="utf-8"))
        check_recipe(out, stored["made_by"], made_by)
        done: dict[str, Any] | None = stored["summary"]
        return done
    if (out / SAMPLES).exists():
        raise RunMismatch(f"{out} holds a {SAMPLES} that nothing says the origin of; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(record, {"made_by": made_by, "versions": versions(), "summary": None})
    return None


def _resumed(path: Path, n: int) -> int:
    """Prompts whose n samples are all in the file; what a killed run left after them is cut off."""
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


def _append(path: Path, rows: Sequence[Sampled]) -> None:
    """Add the lines and wait until the disk has them."""
    text = "".join(row.model_dump_json() + "\n" for row in rows)
    try:
        with path.open("ab") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        raise StorageError(
            f"cannot write {path}: {problem.strerror or problem}; free space and run it again"
        ) from problem
