"""Sample responses with the engine, score them, and work out advantages and returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from constitute.config.train import PPOConfig
from constitute.errors import DataError, EngineError
from constitute.train import losses
from constitute.train.batching import TokenBatch, collate, micro_batches
from constitute.types import Completion, Prompt

RewardFunction = Callable[[Sequence[Prompt], Sequence[Completion]], Sequence[float]]


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores whole sequences of token ids, such as `models.RewardModel`."""

    def scores(self, sequences: Sequence[Sequence[int]], pad_id: int, token_budget: int) -> list[float]: ...


@dataclass(frozen=True)
class Rollouts:
    """B sampled responses: prompt and response in one row of token ids, and how each ended."""

    prompts: Sequence[Prompt]
    completions: Sequence[Completion]
    sequences: list[list[int]]
    prompt_lengths: list[int]
    ended: list[bool]
    mask_BT: Tensor

    @property
    def lengths(self) -> list[int]:
        """Tokens of each whole sequence."""
        return [len(sequence) for sequence in self.sequences]


@dataclass(frozen=True)
class Experience:
    """What the update learns from: log-probabilities, values, advantages and returns of the rollouts."""

    rollouts: Rollouts
    logprobs_BT: Tensor
    values_BT: Tensor
    advantages_BT: Tensor
    returns_BT: Tensor


def gather(
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    completions: Sequence[Completion],
    eos: frozenset[int],
    device: torch.device,
) -> Rollouts:
    """Put prompts and completions together. Raises `EngineError` for a completion without tokens."""
    sequences, ended = [], []
    for prompt, ids, completion in zip(prompts, prompt_ids, completions, strict=True):
        if not completion.token_ids:
            raise EngineError(f"the engine returned no token for prompt {prompt.id!r}; PPO needs token ids")
        stopped = completion.token_ids[-1] in eos
        if completion.finish_reason == "stop" and not stopped:
            raise EngineError(
                f"the engine ended the response to prompt {prompt.id!r} with token "
                f"{completion.token_ids[-1]}, which is none of the model's end tokens "
                f"{sorted(eos)}; add it to `eos_token_id` in the model's generation_config.json"
            )
        sequences.append([*ids, *completion.token_ids])
        ended.append(stopped)
    lengths_B = torch.tensor([len(completion.token_ids) for completion in completions])
    mask_BT = (torch.arange(int(lengths_B.max()))[None, :] < lengths_B[:, None]).float().to(device)
    return Rollouts(prompts, completions, sequences, [len(ids) for ids in prompt_ids], ended, mask_BT)


def batch_of(rollouts: Rollouts, rows: Sequence[int], pad_id: int) -> TokenBatch:
    """The rows of `rollouts`, padded."""
    return collate(
        [rollouts.sequences[row] for row in rows],
        [rollouts.prompt_lengths[row] for row in rows],
        pad_id,
        rollouts.mask_BT.device,
    )


@torch.no_grad()
def forward_all(
    forward: Callable[[TokenBatch], tuple[Tensor, ...]], rollouts: Rollouts, pad_id: int, token_budget: int
) -> list[Tensor]:
    """Run `forward` over all rollouts in length-bucketed pieces; each of its (N,) outputs as (B, T)."""
    outputs: list[Tensor] = []
    for rows in micro_batches(rollouts.lengths, token_budget):
        pieces = forward(batch_of(rollouts, rows, pad_id))
        if not outputs:
            outputs = [torch.zeros_like(rollouts.mask_BT) for _ in pieces]
        rows_mask = rollouts.mask_BT[rows].bool()
        for output_BT, piece_N in zip(outputs, pieces, strict=True):
            part = torch.zeros_like(rollouts.mask_BT[rows])
            part[rows_mask] = piece_N.to(part.dtype)
            output_BT[rows] = part
    return outputs


def rewards_of(
    reward: Scorer | RewardFunction, rollouts: Rollouts, pad_id: int, token_budget: int
) -> list[float]:
    """One finite reward a rollout. Raises `DataError` naming the first prompt whose reward is not."""
    if isinstance(reward, Scorer):
        values = reward.scores(rollouts.sequences, pad_id, token_budget)
    else:
        values = list(reward(rollouts.prompts, rollouts.completions))
    if len(values) != len(rollouts.sequences):
        raise DataError(
            f"the reward function returned {len(values)} rewards for {len(rollouts.sequences)} responses; "
            "it must return one number for each"
        )
    for prompt, value in zip(rollouts.prompts, values, strict=True):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(
                f"the reward of the response to prompt {prompt.id!r} is {value!r}, not a finite number; "
                "mend the reward, then run the same command to go on from the last checkpoint"
            )
    return [float(value) for value in values]


def final_scores(values: Sequence[float], ended: Sequence[bool], penalty: float | None) -> list[float]:
    """Rewards, but minus `penalty` for a response that was cut off (arXiv 1909.08593, section 3.1.1)."""
    if penalty is None:
        return list(values)
    return [value if stop else -penalty for value, stop in zip(values, ended, strict=True)]


def experience(
    rollouts: Rollouts,
    scores: Sequence[float],
    logprobs_BT: Tensor,
    ref_logprobs_BT: Tensor,
    values_BT: Tensor,
    kl_coef: float,
    config: PPOConfig,
    reduce: losses.Reduce = losses.alone,
) -> Experience:
    """Advantages (whitened over every token of every process) and returns (arXiv 1506.02438)."""
    mask_BT = rollouts.mask_BT
    score_B = torch.tensor(scores, device=mask_BT.device)
    rewards_BT = losses.token_rewards(score_B, logprobs_BT, ref_logprobs_BT, mask_BT, kl_coef)
    advantages_BT = losses.gae(rewards_BT, values_BT, mask_BT, config.gamma, config.lam)
    returns_BT = (advantages_BT + values_BT) * mask_BT
    whitened_BT = losses.whiten(advantages_BT, mask_BT, reduce=reduce)
    return Experience(rollouts, logprobs_BT, values_BT, whitened_BT, returns_BT)
