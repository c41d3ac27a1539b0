"""The figures of a PPO run: one line an iteration, and what the whole run came to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from constitute.stats import mean, stderr
from constitute.train.common import losses
from constitute.train.common.rollout import Experience
from constitute.train.ppo.update import UpdateStats

Line = dict[str, Any]


def iteration_figures(
    iteration: int,
    learned: Experience,
    rewards: Sequence[float],
    ref_logprobs_BT: Tensor,
    entropy_BT: Tensor,
    stats: UpdateStats,
    kl_coef: float,
    scheduler: Any,
    parts: Mapping[str, Sequence[float]] | None = None,
) -> Line:
    """Metrics of one iteration, all of the batch before its update.

    `kl` and `kl_k3` are nats per response (k1 and k3 estimates of KL from the reference), `entropy` nats
    per token, `length` tokens, `reward` before the penalty for a missing end. NaN becomes null. Each of
    several `parts` of the reward gives its mean as `reward/<name>` and `reward_stderr/<name>`.
    """
    mask_BT = learned.rollouts.mask_BT
    logs_B = ((learned.logprobs_BT - ref_logprobs_BT) * mask_BT).sum(dim=1)
    k3_B = (losses.k3(learned.logprobs_BT, ref_logprobs_BT) * mask_BT).sum(dim=1)
    explained = losses.explained_variance(learned.returns_BT, learned.values_BT, mask_BT).item()
    rates = scheduler.get_last_lr()
    n = len(rewards)
    return {
        "iteration": iteration + 1,
        "reward": mean(list(rewards)),
        "reward_stderr": stderr(list(rewards)),
        "reward_std": stderr(list(rewards)) * math.sqrt(n),
        "n": n,
        "kl": logs_B.mean().item(),
        "kl_k3": k3_B.mean().item(),
        "kl_coef": kl_coef,
        "entropy": losses.masked_mean(entropy_BT, mask_BT).item(),
        "length": mask_BT.sum().item() / n,
        "eos_rate": sum(learned.rollouts.ended) / n,
        "value_mean": losses.masked_mean(learned.values_BT, mask_BT).item(),
        "return_mean": losses.masked_mean(learned.returns_BT, mask_BT).item(),
        "explained_variance": None if math.isnan(explained) else explained,
        **stats.means(),
        "updates": stats.updates,
        "stopped_early": stats.stopped_early,
        "learning_rate": rates[0],
        "critic_learning_rate": rates[1] if len(rates) > 1 else None,
        **_by_part(parts or {}),
    }


def _by_part(parts: Mapping[str, Sequence[float]]) -> dict[str, float]:
    if len(parts) < 2:
        return {}
    means = {f"reward/{name}": mean(list(values)) for name, values in parts.items()}
    return means | {f"reward_stderr/{name}": stderr(list(values)) for name, values in parts.items()}


def run_summary(lines: Sequence[Line]) -> dict[str, Any]:
    """Reward of the first and of the last iterations with intervals, final KL, length and seconds by phase.

    The last tenth of the iterations (at least one) is averaged: a single batch is noisy.
    """
    tail = lines[-max(1, len(lines) // 10) :]
    gaps = [line["sync_gap"] for line in lines if line["sync_gap"] is not None]
    seconds: dict[str, float] = {}
    for line in lines:
        for phase, spent in line["seconds"].items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
    return {
        "iterations": len(lines),
        "reward_before": _interval(lines[:1]),
        "reward_after": _interval(tail),
        **{name: mean([line[name] for line in tail]) for name in ("kl", "entropy", "length", "eos_rate")},
        "kl_coef": lines[-1]["kl_coef"],
        "largest_sync_gap": max(gaps, default=None),
        "seconds": {phase: round(spent, 3) for phase, spent in seconds.items()},
    }


def _interval(lines: Sequence[Line]) -> dict[str, float]:
    """Mean reward over iterations with a 95 % interval from their standard errors (normal)."""
    n = sum(line["n"] for line in lines)
    value = sum(line["reward"] * line["n"] for line in lines) / n
    spread = math.sqrt(sum((line["reward_stderr"] * line["n"]) ** 2 for line in lines)) / n
    return {"value": value, "n": n, "low": value - 1.96 * spread, "high": value + 1.96 * spread}
