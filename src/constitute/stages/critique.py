"""Ask for a critique of the latest answer under one principle (arXiv 2212.08073, section 3.1)."""

from __future__ import annotations

import random

from constitute.config import ReviseConfig
from constitute.errors import RowError
from constitute.stages.base import Sample
from constitute.templates import render
from constitute.types import Message, Principle, Request, Response, SamplingParams


def sampling(cfg: ReviseConfig) -> SamplingParams:
    """How critiques and revisions are sampled."""
    return SamplingParams(
        max_tokens=cfg.max_tokens, temperature=cfg.temperature, top_p=cfg.top_p, stop=cfg.stop
    )


def opening(row: Response) -> tuple[Message, ...]:
    """The conversation with its latest answer: the part that critique and revision share."""
    return (*row.prompt.messages, Message(role="assistant", content=row.final))


def critique_turn(row: Response, principle: Principle) -> tuple[Message, ...]:
    """The conversation up to the critique request."""
    request = render("critique", principle=principle, messages=row.prompt.messages, answer=row.final)
    return (*opening(row), Message(role="user", content=request))


async def critique(
    row: Response, sample: Sample, rng: random.Random, cfg: ReviseConfig, principle: Principle
) -> str:
    """What the critic says of the latest answer. Raises `RowError` where it says nothing."""
    round_ = len(row.steps)
    request = Request(messages=critique_turn(row, principle), sampling=sampling(cfg))
    completion = await sample.generate(request, step="critique", index=round_, principle=principle)
    text = completion.text.strip()
    if not text:
        raise RowError(f"the critique of round {round_ + 1} is empty")
    return text
