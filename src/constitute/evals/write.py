"""Have a model write eval items: statements for a behaviour, or reply pairs for a principle.

Deviates from the paper (arXiv 2212.09251): the gate is the served model's log-probabilities, where the
paper used a preference model, and a reply item's answers come from critique and revision (2212.08073).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain, RowError
from constitute.evals.gate import gate_reply, gate_statement
from constitute.stages.base import Sample
from constitute.templates import render
from constitute.types import EvalItem, Message, Principle, Record, Request, Role, SamplingParams

_LIST_MARK = re.compile(r"^(?:[-*•]|\d{1,2}[.)])\s+")
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"))


class StatementRow(Record):
    """A statement to be written: one that a person with the behaviour would (dis)agree with."""

    id: str
    behavior: str
    agree: bool


class ReplyRow(Record):
    """A reply item to be written under a principle."""

    id: str
    principle: Principle


class Written(Record):
    """A candidate item with its verdict; `critique` is the reviser's reason for a reply item."""

    item: EvalItem
    p_by_order: tuple[float, ...]
    mass: float
    critique: str = ""


def statement_rows(behavior: str, cfg: EvalsConfig) -> list[StatementRow]:
    """Candidates for a behaviour: half per label, labels alternating, `oversample` for each wanted."""
    per_label = math.ceil(cfg.n / 2 * cfg.oversample)
    return [
        StatementRow(
            id=f"{slug(behavior)}-{'yes' if agree else 'no'}-{index:05d}", behavior=behavior, agree=agree
        )
        for index in range(per_label)
        for agree in (True, False)
    ]


def reply_rows(principles: Sequence[Principle], cfg: EvalsConfig) -> list[ReplyRow]:
    """Candidates for principles: `oversample` for each item wanted of each principle, in turn."""
    each = math.ceil(cfg.n * cfg.oversample)
    return [
        ReplyRow(id=f"{principle.id}-{index:05d}", principle=principle)
        for index in range(each)
        for principle in principles
    ]


def slug(text: str) -> str:
    """A file name for a behaviour: lower-case words joined by hyphens, at most 60 characters."""
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:60].rstrip("-") or "set"


def clean_statement(text: str) -> str:
    """The sentence without a list mark and without quotes around all of it."""
    line = _LIST_MARK.sub("", text.strip()).strip()
    for opening, closing in _QUOTES:
        if len(line) > 1 and line.startswith(opening) and line.endswith(closing):
            return line[1:-1].strip()
    return line


async def write_statement(row: StatementRow, sample: Sample, cfg: EvalsConfig) -> Written:
    """Write one statement and judge it. Raises `RowError` for an empty or cut-off statement."""
    prompt = render("evals_statement", behavior=row.behavior, agree=row.agree)
    statement = clean_statement(await _say(sample, [("user", prompt)], cfg.statement, "statement"))
    if not statement:
        raise RowError("the statement is empty")
    verdict = await gate_statement(row.behavior, statement, row.agree, sample, cfg)
    item = EvalItem(
        id=row.id,
        question=render("evals_question", statement=statement),
        answer_matching_behavior=" Yes" if row.agree else " No",
        answer_not_matching_behavior=" No" if row.agree else " Yes",
        statement=statement,
        label_confidence=verdict.confidence,
        behavior=row.behavior,
        family="persona",
    )
    return Written(item=item, p_by_order=verdict.p_by_order, mass=verdict.mass)


async def write_reply(row: ReplyRow, sample: Sample, cfg: EvalsConfig) -> Written:
    """Write a user's message, answer it, revise the answer under the principle, judge the two.

    Raises `RowError` for an empty or cut-off text and `Abstain` where the revision changes nothing.
    """
    principle = row.principle
    prompt = render("evals_request", principle=principle)
    question = clean_statement(await _say(sample, [("user", prompt)], cfg.request, "request", principle))
    turns: list[tuple[Role, str]] = [("user", question)]
    response = await _say(sample, turns, cfg.reply, "response")
    asked = (Message(role="user", content=question),)
    given: dict[str, Any] = {"principle": principle, "messages": asked, "answer": response}
    turns += [("assistant", response), ("user", render("critique", **given))]
    critique = await _say(sample, turns, cfg.reply, "critique", principle)
    turns += [("assistant", critique), ("user", render("revise", **given))]
    revision = await _say(sample, turns, cfg.reply, "revision", principle)
    if revision == response:
        raise Abstain("the revision equals the response")
    verdict = await gate_reply(question, response, revision, principle, sample, cfg)
    item = EvalItem(
        id=row.id,
        question=question,
        answer_matching_behavior=" " + revision,
        answer_not_matching_behavior=" " + response,
        label_confidence=verdict.confidence,
        behavior=principle.id,
        family="reply",
    )
    return Written(item=item, p_by_order=verdict.p_by_order, mass=verdict.mass, critique=critique)


async def _say(
    sample: Sample,
    turns: Sequence[tuple[Role, str]],
    sampling: SamplingParams,
    step: str,
    principle: Principle | None = None,
) -> str:
    """One completion's text, stripped; raises `RowError` where it is empty or was cut off."""
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    request = Request(messages=messages, sampling=sampling)
    completion = await sample.generate(request, step=step, principle=principle)
    if completion.finish_reason == "length":
        raise RowError(f"the {step} was cut off at {sampling.max_tokens} tokens")
    if not (text := completion.text.strip()):
        raise RowError(f"the {step} is empty")
    return text
