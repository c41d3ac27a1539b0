"""Persona items: would you say this? A statement with the labels Yes and No (arXiv 2212.09251, section 2).

Multiple-choice items with two labels, such as (A) and (B), are read and scored in the same way.
Deviates from the paper: the gate is the served model's log-probabilities, where the paper used a preference
model, and repeats are dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import chain

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain, RowError, UsageError
from constitute.evals.families.base import (
    FamilySpec,
    ItemScore,
    Written,
    compare_answers,
    one_sentence,
    say,
)
from constitute.evals.gate import Verdict, choose_labels, log_sum
from constitute.evals.items import slug
from constitute.evals.select import Selection, drop_repeats
from constitute.stages.base import Sample
from constitute.templates import render
from constitute.types import EvalItem, Message, Record, Request

_LABEL = re.compile(r"(?i)yes|no|\(?[a-z]\)?")
_OPTION = re.compile(r"(?m)^\s*\(([A-Z])\)")


class StatementRow(Record):
    """A statement to be written: one that a person with the behaviour would (dis)agree with."""

    id: str
    behavior: str
    agree: bool


def statement_rows(behaviors: Sequence[str], cfg: EvalsConfig) -> list[StatementRow]:
    """Candidates for each behaviour: half per label, labels alternating, `oversample` for each wanted."""
    per_label = math.ceil(cfg.n / 2 * cfg.oversample)
    return [
        StatementRow(
            id=f"{slug(behavior)}-{'yes' if agree else 'no'}-{index:05d}", behavior=behavior, agree=agree
        )
        for behavior in behaviors
        for index in range(per_label)
        for agree in (True, False)
    ]


async def write_statement(row: StatementRow, sample: Sample, cfg: EvalsConfig) -> Written:
    """Write one statement and judge it. Raises `RowError` for an empty or cut-off statement."""
    prompt = render("evals_statement", behavior=row.behavior, agree=row.agree)
    statement = one_sentence(await say(sample, [("user", prompt)], cfg.statement, "statement"))
    if not statement:
        raise RowError("the statement is empty")
    verdict = await gate_statement(row, statement, sample, cfg)
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


async def gate_statement(row: StatementRow, statement: str, sample: Sample, cfg: EvalsConfig) -> Verdict:
    """P(label) of a statement: would somebody with the behaviour agree with it?"""
    text = render("evals_gate", behavior=row.behavior, statement=statement)
    request = Request(messages=(Message(role="user", content=text),))
    (yes, no), mass = await choose_labels(sample, request, ("Yes", "No"), step="gate", min_mass=cfg.min_mass)
    wanted = yes if row.agree else no
    return Verdict(p_by_order=(math.exp(wanted - log_sum((yes, no))),), mass=mass)


def select_persona(
    items: Sequence[EvalItem], per_label: int, min_confidence: float, near_duplicate: float | None
) -> Selection:
    """Top items of each label by confidence, equally many, alternating Yes and No from Yes on.

    The order of the released persona files. `near_duplicate` None keeps repeats.
    """
    sure = [item for item in items if (item.label_confidence or 0.0) > min_confidence]
    ranked = sorted(sure, key=lambda item: -(item.label_confidence or 0.0))
    kept = drop_repeats(ranked, [item.statement or "" for item in ranked], near_duplicate)
    yes = [item for item in kept if item.answer_matching_behavior == " Yes"]
    no = [item for item in kept if item.answer_matching_behavior == " No"]
    size = min(per_label, len(yes), len(no))
    # Good enough and wanted, but there is no item of the other label to balance them.
    unbalanced = min(per_label, max(len(yes), len(no))) - size
    dropped = {
        "label not sure": len(items) - len(sure),
        "repeats another": len(sure) - len(kept),
        "other label missing": unbalanced,
        "more than wanted": len(kept) - 2 * size - unbalanced,
    }
    return Selection(
        items=tuple(chain.from_iterable(zip(yes[:size], no[:size], strict=True))), dropped=dropped
    )


def _select(items: Sequence[EvalItem], cfg: EvalsConfig) -> Selection:
    # Half of an odd number of items cannot be balanced; the set is then one item larger.
    return select_persona(items, (cfg.n + 1) // 2, cfg.min_confidence, cfg.near_duplicate)


async def score_labels(item: EvalItem, sample: Sample, cfg: EvalsConfig) -> ItemScore:
    """Compare the item's two labels as the assistant's reply to its question.

    Raises `Abstain` for a tie, too little label mass, or a question with more than two options.
    """
    if (options := option_count(item.question)) > 2:
        raise Abstain(f"{options} options")
    request = Request(messages=(Message(role="user", content=item.question),))
    answers = (item.answer_matching_behavior, item.answer_not_matching_behavior)
    (matching, other), mass = await choose_labels(
        sample, request, answers, step="choice", min_mass=cfg.min_mass
    )
    return compare_answers(item, matching, other, mass)


def is_label(answer: str) -> bool:
    """Whether an answer is a short label (Yes, No, a letter with or without brackets) and not a reply."""
    return _LABEL.fullmatch(answer.strip()) is not None


def has_labels(item: EvalItem) -> bool:
    """Whether both answers are labels."""
    return is_label(item.answer_matching_behavior) and is_label(item.answer_not_matching_behavior)


def check_labels(items: Sequence[EvalItem]) -> None:
    """Raise `UsageError` for more than two labels: scoring two of several options ignores the others."""
    labels = {a for i in items for a in (i.answer_matching_behavior, i.answer_not_matching_behavior)}
    if len(labels) > 2:
        listed = ", ".join(repr(label) for label in sorted(labels))
        raise UsageError(
            f"the set has {len(labels)} labels ({listed}); a score compares exactly two, so keep the items "
            "with two options in a file of their own"
        )


def option_count(question: str) -> int:
    """Lettered options listed in a question, each on a line of its own; 0 where none are listed."""
    return len(set(_OPTION.findall(question)))


FAMILY = FamilySpec(
    about="statements to say Yes or No to",
    subject="behavior",
    rows=statement_rows,
    work=write_statement,
    select=_select,
    score=score_labels,
    recognises=has_labels,
    check=check_labels,
    templates=("evals_statement", "evals_gate", "evals_question"),
    sampling=("statement",),
)
