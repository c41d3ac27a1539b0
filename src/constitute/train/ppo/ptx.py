"""PPO-ptx: mix the likelihood of good conversations into each update (arXiv 2203.02155, equation 2)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from constitute.config.ppo import PPOConfig
from constitute.config.train import SFTConfig
from constitute.engines.render import Renderer, RenderSettings
from constitute.errors import DataError
from constitute.train.common.batching import TokenBatch, collate
from constitute.train.common.data import read_conversations
from constitute.train.common.team import deal
from constitute.train.ppo.update import Learner

# Token ids of a conversation and their labels; tokens labelled so bear no loss.
Labelled = tuple[list[int], list[int]]
_IGNORED = -100


def read_ptx(
    config: PPOConfig,
    tokenizer: Any,
    ends: frozenset[int],
    limit: int | None,
    rendering: RenderSettings | None = None,
) -> list[Labelled]:
    """Token ids and labels of `ptx_data`, those that fit `limit` tokens; empty where it is not used.

    Raises `UsageError` or `DataError` for a file that cannot be used.
    """
    if not config.ptx_coef or config.ptx_data is None:
        return []
    renderer = Renderer(tokenizer, tokenizer.name_or_path, ends, rendering)
    found = read_conversations(Path(config.ptx_data), SFTConfig().loss)
    rows = [row for conversation in found for row in conversation.rows(renderer)]
    kept = [row for row in rows if limit is None or len(row[0]) <= limit]
    if not kept:
        raise DataError(f"all {len(rows)} conversations of {config.ptx_data} are longer than {limit} tokens")
    return kept


def add_ptx(learner: Learner, rows: Sequence[Labelled], config: PPOConfig, seed: int) -> None:
    """Add the gradient of `ptx_coef` times the mean negative log-likelihood of a drawn batch."""
    team = learner.team
    count = max(1, config.batch_size // config.minibatches)
    rng = random.Random(seed)
    drawn = [rows[rng.randrange(len(rows))] for _ in range(count)]
    tokens = sum(label != _IGNORED for _, labels in drawn for label in labels)
    mine = deal([len(ids) for ids, _ in drawn], team.size)[team.rank]
    for places in team.cut([len(drawn[row][0]) for row in mine], config.microbatch_tokens):
        batch = labelled([drawn[mine[place]] for place in places], learner.pad_id, team.device)
        with team.accelerator.autocast():
            # The model's own distribution is what imitates: no sampling temperature.
            logprobs_N, _ = learner.model.actor(batch, 1.0)
        (-config.ptx_coef * logprobs_N.sum() / tokens).backward()


def labelled(rows: Sequence[Labelled], pad_id: int, device: torch.device) -> TokenBatch:
    """Right-padded conversations whose labelled tokens are the targets."""
    if not rows:
        return collate([], [], pad_id, device)
    width = max(len(ids) for ids, _ in rows)
    padded = [[*ids, *([pad_id] * (width - len(ids)))] for ids, _ in rows]
    predict = [
        row * width + place - 1
        for row, (_, labels) in enumerate(rows)
        for place, label in enumerate(labels)
        if label != _IGNORED
    ]
    target = [label for _, labels in rows for label in labels if label != _IGNORED]
    last = [row * width + len(ids) - 1 for row, (ids, _) in enumerate(rows)]
    return TokenBatch(
        torch.tensor(padded, device=device),
        torch.arange(width, device=device).expand(len(rows), width),
        torch.tensor(predict, dtype=torch.long, device=device),
        torch.tensor(target, dtype=torch.long, device=device),
        torch.tensor(last, device=device),
    )
