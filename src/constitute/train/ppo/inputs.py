"""What goes into a PPO run: which prompts fit, what identifies them, and rows to check the engine on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from constitute.config.ppo import PPOConfig
from constitute.errors import DataError
from constitute.train.common.artefact import model_identity
from constitute.train.common.rollout import Rollouts
from constitute.train.ppo.sync import PROBE_ROWS
from constitute.train.rewards.parts import RewardPart
from constitute.types import Prompt


def input_hashes(
    prompt_ids: Sequence[Sequence[int]], policy: str, parts: Sequence[RewardPart], reference: str | None
) -> dict[str, str]:
    """What a run is made from, by name: part of its recipe."""
    rendered = hashlib.sha256(json.dumps([list(ids) for ids in prompt_ids]).encode()).hexdigest()[:16]
    found = {
        "prompts": rendered,
        "policy": model_identity(policy),
        "reference": model_identity(reference or policy),
    }
    for part in parts:
        known = model_identity(part.source) if isinstance(part.source, str) else part.identity
        found[f"reward/{part.name}"] = f"{part.weight:g}*{part.identity or known}"
    return found


def fitting(
    prompts: Sequence[Prompt], prompt_ids: Sequence[Sequence[int]], limit: int | None, config: PPOConfig
) -> tuple[list[Prompt], list[list[int]], int]:
    """The prompts that leave room for a whole response, and how many did not."""
    room = None if limit is None else limit - config.max_new_tokens
    kept = [pair for pair in zip(prompts, prompt_ids, strict=True) if room is None or len(pair[1]) <= room]
    if not kept:
        raise DataError(
            "there are no prompts to train on"
            if not prompts
            else f"no prompt leaves room for {config.max_new_tokens} new tokens in a context of {limit}; "
            "lower train.ppo.max_new_tokens or raise engine.context_length"
        )
    return [pair[0] for pair in kept], [list(pair[1]) for pair in kept], len(prompts) - len(kept)


def probe(rollouts: Rollouts) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and completions of the first rollouts, to compare engine and trainer on."""
    pairs = list(zip(rollouts.sequences, rollouts.prompt_lengths, strict=True))[:PROBE_ROWS]
    return [row[:start] for row, start in pairs], [row[start:] for row, start in pairs]
