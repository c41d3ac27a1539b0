"""Critique and revise an answer, round by round, keeping every step (arXiv 2212.08073, section 3.1).

A round starts from the prompt and the latest answer; earlier critiques are not shown again, nor is what a
model thought before it answered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from constitute.config import ReviseConfig
from constitute.constitution.draw import draw
from constitute.errors import RowError, UsageError
from constitute.stages import few_shot
from constitute.stages.base import Sample, StageSpec
from constitute.templates import render
from constitute.types import (
    Constitution,
    CritiqueRevision,
    Message,
    Principle,
    Request,
    Response,
    SamplingParams,
)

_CHANGE = r"(?:changes?|revisions?|edits?|corrections?|improvements?)"
_CLEAN = re.compile(
    r"(?:no[,.] )?(?:there(?: is|['’]s) )?nothing (?:needs )?to (?:be )?"
    r"(?:mend|revise|change|improve|correct|fix)(?:ed|d)?"
    r"(?: here| in (?:it|this|the|my) ?(?:answer|reply|response)?)?[.!]*"
    rf"|no {_CHANGE} (?:(?:is|are) )?(?:needed|necessary|required)[.!]*",
    re.IGNORECASE,
)


async def revise(row: Response, sample: Sample, cfg: ReviseConfig, constitution: Constitution) -> Response:
    """The row with one step a round, each under a principle drawn for (row, round).

    With `cfg.skip_clean`, a round whose critique finds nothing to mend keeps the answer and asks no more.

    Raises `RowError` where a critique or a revision is empty or cut short.
    """
    for round_ in range(cfg.rounds):
        principle = draw(constitution, row.id, round_)
        said = await critique(row, sample, cfg, principle) if cfg.critique else ""
        clean = cfg.skip_clean and nothing_to_mend(said)
        text = row.final if clean else await _revision(row, said, sample, cfg, principle)
        step = CritiqueRevision(principle_id=principle.id, critique=said, revision=text, skipped=clean)
        row = row.model_copy(update={"steps": (*row.steps, step)})
    return row


def nothing_to_mend(critique: str) -> bool:
    """Whether a critique says that there is nothing to mend, and says nothing else. English only."""
    return _CLEAN.fullmatch(critique.strip().strip("*_\"'").strip()) is not None


def _critique_request(principle: Principle, messages: Sequence[Message], answer: str, clean: bool) -> str:
    asked = render("critique", principle=principle, messages=messages, answer=answer)
    return f"{asked}\n{render('nothing_to_mend')}" if clean else asked


def sampling(cfg: ReviseConfig) -> SamplingParams:
    """How critiques and revisions are sampled."""
    return SamplingParams(
        max_tokens=cfg.max_tokens, temperature=cfg.temperature, top_p=cfg.top_p, stop=cfg.stop
    )


def opening(row: Response, principle: Principle, cfg: ReviseConfig) -> tuple[Message, ...]:
    """The conversation with its latest answer, after the examples: what critique and revision share."""
    turns: list[Message] = []
    for shot in few_shot.revise_shots(row.id, row.prompt.messages, principle, cfg):
        said = (*shot.messages, Message(role="assistant", content=shot.worse))
        asked = {"principle": principle, "messages": shot.messages, "answer": shot.worse}
        if cfg.critique:
            critiqued = Message(role="assistant", content=shot.critique)
            request = _critique_request(principle, shot.messages, shot.worse, cfg.skip_clean)
            said = (*said, Message(role="user", content=request), critiqued)
        better = Message(role="assistant", content=shot.better)
        turns += [*said, Message(role="user", content=render("revise", **asked)), better]
    shown = few_shot.after_system(row.prompt.messages, turns)
    return (*shown, Message(role="assistant", content=row.final))


def critique_turn(row: Response, principle: Principle, cfg: ReviseConfig) -> tuple[Message, ...]:
    """The conversation up to the critique request."""
    request = _critique_request(principle, row.prompt.messages, row.final, cfg.skip_clean)
    return (*opening(row, principle, cfg), Message(role="user", content=request))


async def critique(row: Response, sample: Sample, cfg: ReviseConfig, principle: Principle) -> str:
    """What the critic says of the latest answer. Raises `RowError` where it says nothing."""
    round_ = len(row.steps)
    request = Request(
        messages=critique_turn(row, principle, cfg), sampling=sampling(cfg), thinking=cfg.thinking_tokens
    )
    completion = await sample.generate(request, step="critique", index=round_, principle=principle)
    text = completion.text.strip()
    if not text:
        raise RowError(f"the critique of round {round_ + 1} is empty")
    return text


def revision_turn(row: Response, said: str, principle: Principle, cfg: ReviseConfig) -> tuple[Message, ...]:
    """The conversation up to the revision request, with the critique `said` where there is one."""
    before = opening(row, principle, cfg)
    if said:
        before = (*critique_turn(row, principle, cfg), Message(role="assistant", content=said))
    request = render("revise", principle=principle, messages=row.prompt.messages, answer=row.final)
    return (*before, Message(role="user", content=request))


async def _revision(row: Response, said: str, sample: Sample, cfg: ReviseConfig, principle: Principle) -> str:
    round_ = len(row.steps)
    request = Request(
        messages=revision_turn(row, said, principle, cfg),
        sampling=sampling(cfg),
        thinking=cfg.thinking_tokens,
    )
    completion = await sample.generate(request, step="revision", index=round_, principle=principle)
    text = completion.text.strip()
    if not text:
        raise RowError(f"the revision of round {round_ + 1} is empty")
    return text


def _templates(cfg: ReviseConfig) -> tuple[str, ...]:
    return ("critique", "nothing_to_mend", "revise") if cfg.skip_clean else ("critique", "revise")


def _check(cfg: ReviseConfig) -> None:
    if cfg.skip_clean and not cfg.critique:
        raise UsageError(
            "revise.skip_clean needs a critique, and revise.critique is false; set one of them otherwise"
        )
    few_shot.check("revise", cfg)


STAGE = StageSpec(
    reads="response",
    work=revise,
    settings=ReviseConfig,
    revises=True,
    templates=_templates,
    check=_check,
    files=frozenset({"few_shot_file"}),
    shows=partial(few_shot.digests, "revise"),
)
