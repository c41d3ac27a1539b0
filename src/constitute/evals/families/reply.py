"""Reply items: a user's message with a reply that keeps a principle and one that does not.

Deviates from arXiv 2212.09251: the two replies come from critique and revision (arXiv 2212.08073), and the
judge is the served model, asked in both orders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain
from constitute.evals.asking import put
from constitute.evals.families.base import (
    FamilySpec,
    ItemScore,
    Written,
    compare_answers,
    one_sentence,
    say,
)
from constitute.evals.families.persona import has_labels
from constitute.evals.gate import Verdict, p_label
from constitute.evals.select import Selection, drop_repeats
from constitute.stages.base import Sample
from constitute.templates import render
from constitute.types import EvalItem, Message, Principle, Record, Role


class ReplyRow(Record):
    """A reply item to be written under a principle, of which it holds the id and the words alone."""

    id: str
    principle: Principle


def reply_rows(principles: Sequence[Principle], cfg: EvalsConfig) -> list[ReplyRow]:
    """Candidates for principles: `oversample` for each item wanted of each principle, in turn."""
    words = [
        Principle(id=p.id, text=p.text, critique=p.critique, revise=p.revise, compare=p.compare)
        for p in principles
    ]
    each = math.ceil(cfg.n * cfg.oversample)
    return [
        ReplyRow(id=f"{principle.id}-{index:05d}", principle=principle)
        for index in range(each)
        for principle in words
    ]


async def write_reply(row: ReplyRow, sample: Sample, cfg: EvalsConfig) -> Written:
    """Write a user's message, answer it, revise the answer under the principle, judge the two.

    Raises `RowError` for an empty or cut-off text and `Abstain` where the revision changes nothing.
    """
    principle = row.principle
    prompt = render("evals_request", principle=principle)
    question = one_sentence(await say(sample, [("user", prompt)], cfg.request, "request", principle))
    turns: list[tuple[Role, str]] = [("user", question)]
    response = await say(sample, turns, cfg.reply, "response")
    asked = (Message(role="user", content=question),)
    given: dict[str, Any] = {"principle": principle, "messages": asked, "answer": response}
    turns += [("assistant", response), ("user", render("critique", **given))]
    critique = await say(sample, turns, cfg.reply, "critique", principle)
    turns += [("assistant", critique), ("user", render("revise", **given))]
    revision = await say(sample, turns, cfg.reply, "revision", principle)
    if revision == response:
        raise Abstain("the revision equals the response")
    item = EvalItem(
        id=row.id,
        question=question,
        options=(" " + revision, " " + response),
        matching=(0,),
        behavior=principle.id,
        family="reply",
    )
    verdict = await gate_reply(item, principle, sample, cfg)
    judged = item.model_copy(update={"label_confidence": verdict.confidence})
    return Written(item=judged, p_by_order=verdict.p_by_order, mass=verdict.mass, critique=critique)


async def gate_reply(item: EvalItem, principle: Principle, sample: Sample, cfg: EvalsConfig) -> Verdict:
    """P(the revision is better under the principle), with the revision shown first and then second."""
    revision, response = (text[1:] for text in item.options)
    messages = (Message(role="user", content=item.question),)
    ps: list[float] = []
    masses: list[float] = []
    for first, a, b in ((True, revision, response), (False, response, revision)):
        text = render("compare", messages=messages, a=a, b=b, principle=principle)
        step = "compare-revision-first" if first else "compare-revision-second"
        p, mass = await p_label(
            sample,
            text,
            ("A", "B"),
            "A" if first else "B",
            step=step,
            min_mass=cfg.min_mass,
            principle=principle,
        )
        ps.append(p)
        masses.append(mass)
    return Verdict(p_by_order=tuple(ps), mass=min(masses))


def select_replies(
    items: Sequence[EvalItem], per_principle: int, min_preference: float, near_duplicate: float | None
) -> Selection:
    """Top items of each principle by the judge's preference; principles in order of appearance.

    `label_confidence` is None on an item whose two orders disagreed: such an item is dropped.
    """
    agreed = [item for item in items if item.label_confidence is not None]
    sure = [item for item in agreed if (item.label_confidence or 0.0) >= min_preference]
    ranked = sorted(sure, key=lambda item: -(item.label_confidence or 0.0))
    distinct = drop_repeats(ranked, [item.question for item in ranked], near_duplicate)
    groups: dict[str, list[EvalItem]] = {item.behavior: [] for item in items}
    for item in distinct:
        groups[item.behavior].append(item)
    kept = tuple(chain.from_iterable(group[:per_principle] for group in groups.values()))
    dropped = {
        "judge's orders disagree": len(items) - len(agreed),
        "judge not sure": len(agreed) - len(sure),
        "repeats another": len(sure) - len(distinct),
        "more than wanted": len(distinct) - len(kept),
    }
    return Selection(items=kept, dropped=dropped)


def _select(items: Sequence[EvalItem], cfg: EvalsConfig) -> Selection:
    return select_replies(items, cfg.n, cfg.min_preference, cfg.near_duplicate)


async def score_replies(item: EvalItem, sample: Sample, cfg: EvalsConfig) -> ItemScore:
    """Compare the item's replies by their log-probabilities after its question.

    Raises `Abstain` for a tie and for a reply that was not scored.
    """
    request = await put(item, sample, cfg)
    blank = request.form == "chat" and not request.prefill
    texts = [answer.removeprefix(" ") if blank else answer for answer in item.options]
    choice = await sample.choose(request, texts, step="choice")
    if any(value is None for value in choice.logprobs):
        raise Abstain("a reply was not scored")
    weights = [len(text.encode()) if cfg.reply_score == "per_byte" else 1 for text in texts]
    values = [(value or 0.0) / weight for value, weight in zip(choice.logprobs, weights, strict=True)]
    return compare_answers(item, values, item.matching)


def _has_replies(item: EvalItem) -> bool:
    return not has_labels(item)


FAMILY = FamilySpec(
    about="pairs of replies to a user's message",
    subject="principle",
    rows=reply_rows,
    work=write_reply,
    select=_select,
    score=score_replies,
    recognises=_has_replies,
    templates=("evals_request", "critique", "revise", "compare"),
    sampling=("request", "reply"),
)
