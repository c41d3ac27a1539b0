"""Ways to ask for prompts: with no example, with given ones, or with those that worked (arXiv 2202.03286).

Deviates from the paper, whose models went on with a bare list: a chat model is asked for a list. `worked` is
its stochastic few-shot generation: examples are drawn by exp(score / temperature).
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from constitute.config.prompts import WritePromptsConfig
from constitute.types import Record


class Shot(Record):
    """A prompt that may be shown as an example; `score` says how well it worked, where that is known."""

    id: str
    text: str
    principle_id: str = ""
    score: float | None = None


Draw = Callable[[Sequence[Shot], WritePromptsConfig, random.Random], list[Shot]]


@dataclass(frozen=True)
class PromptMethod:
    """`shots` says where examples come from: none, those given, or the given and earlier ones with a score.

    `draw` chooses among them for one question, with randomness of its own for each.
    """

    about: str
    shots: Literal["none", "given", "scored"]
    draw: Draw


def drawn(
    method: PromptMethod, pool: Sequence[Shot], cfg: WritePromptsConfig, row_id: str, seed: int
) -> list[Shot]:
    """The examples of one question: the same for the same pool, row and seed."""
    digest = hashlib.sha256(f"{seed} {row_id}".encode()).digest()
    return method.draw(pool, cfg, random.Random(int.from_bytes(digest[:8])))


def _none(pool: Sequence[Shot], cfg: WritePromptsConfig, rng: random.Random) -> list[Shot]:
    return []


def _uniform(pool: Sequence[Shot], cfg: WritePromptsConfig, rng: random.Random) -> list[Shot]:
    return rng.sample(list(pool), min(cfg.shots, len(pool)))


def by_score(pool: Sequence[Shot], cfg: WritePromptsConfig, rng: random.Random) -> list[Shot]:
    """Without replacement by exp(score / temperature): the largest score / temperature plus Gumbel noise.

    Source: Kool, van Hoof and Welling, "Stochastic beams and where to find them", 2019, section 2.3.
    """
    scored = [shot for shot in pool if shot.score is not None]
    noise = [-math.log(-math.log(max(rng.random(), 1e-300))) for _ in scored]
    keys = [(shot.score or 0.0) / cfg.temperature + each for shot, each in zip(scored, noise, strict=True)]
    best = sorted(range(len(scored)), key=lambda at: -keys[at])[: cfg.shots]
    return [scored[at] for at in best]


ZERO_SHOT = PromptMethod("no example is shown", "none", _none)
FEW_SHOT = PromptMethod("examples of a file or of the constitution are shown", "given", _uniform)
WORKED = PromptMethod(
    "earlier prompts are shown, those that broke a principle more often", "scored", by_score
)
