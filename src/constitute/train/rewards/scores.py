"""From rewards to the scores that are learned from: normalised, cut, less for length or a missing end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from constitute.config.ppo import PPOConfig


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of all rewards so far."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @property
    def deviation(self) -> float:
        """Biased standard deviation; 0 of nothing."""
        return math.sqrt(self.squares / self.n) if self.n else 0.0

    def with_values(self, values: Sequence[float]) -> Moments:
        """These and `values`, joined without keeping either (B. P. Welford, Technometrics 4, 1962; in batches
        T. F. Chan and others, The American Statistician 37, 1983, equation 2.1)."""
        if not values:
            return self
        n, total = len(values), self.n + len(values)
        mean = math.fsum(values) / n
        squares = math.fsum((value - mean) ** 2 for value in values)
        apart = mean - self.mean
        return Moments(
            total,
            self.mean + apart * n / total,
            self.squares + squares + apart**2 * self.n * n / total,
        )


def final_scores(
    values: Sequence[float],
    ended: Sequence[bool],
    config: PPOConfig,
    lengths: Sequence[int] | None = None,
    moments: Moments | None = None,
) -> list[float]:
    """What is put on the last token of each response: its reward normalised, cut, and with the penalties.

    `lengths` are tokens; None takes nothing off for them. `moments` are those of `score_norm=running`; None
    leaves the rewards as they are. A response without an end scores -missing_eos_penalty whatever it says
    (arXiv 1909.08593, 3.1.1), and no more than the worst of the batch: else to be cut off would be the best
    that a policy of low rewards can do.
    """
    scores = list(values)
    if config.score_norm == "batch":
        scores = _normalised(scores, Moments().with_values(scores))
    elif config.score_norm == "running" and moments is not None:
        scores = _normalised(scores, moments)
    if config.score_clip is not None:
        scores = [min(max(score, -config.score_clip), config.score_clip) for score in scores]
    if lengths is not None:
        pairs = zip(scores, lengths, strict=True)
        scores = [score - length_cost(length, config) for score, length in pairs]
    if config.missing_eos_penalty is None:
        return scores
    cut_off = min(-config.missing_eos_penalty, *scores) if scores else 0.0
    return [score if stop else cut_off for score, stop in zip(scores, ended, strict=True)]


def length_cost(length: int, config: PPOConfig) -> float:
    """What a response of `length` tokens pays (arXiv 2503.14476, equation 13, is a case of it)."""
    return config.length_penalty * max(0, length - config.length_free)


def _normalised(scores: Sequence[float], moments: Moments) -> list[float]:
    return [(score - moments.mean) / (moments.deviation + 1e-8) for score in scores]
