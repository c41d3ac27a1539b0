"""How the learning rates go over a run: a rise, then the schedule; the critic may go first."""

from __future__ import annotations

import math

from constitute.config.ppo import PPOConfig


def actor_rate(done: int, config: PPOConfig) -> float:
    """What the policy's learning rate is multiplied by after `done` iterations; 0 while the critic learns."""
    if done < config.value_warmup:
        return 0.0
    return _rise(done - config.value_warmup, config) * _fall(done, config)


def critic_rate(done: int, config: PPOConfig) -> float:
    """The same for the critic, which learns from the first iteration on."""
    return _rise(done, config) * _fall(done, config)


def _rise(done: int, config: PPOConfig) -> float:
    """From 1 / w to 1 over the first w = warmup * iterations: no iteration is spent at a rate of 0."""
    rising = math.ceil(config.warmup * config.iterations)
    return min(1.0, (done + 1) / rising) if rising else 1.0


def _fall(done: int, config: PPOConfig) -> float:
    return 1.0 - done / config.iterations if config.schedule == "linear" else 1.0
