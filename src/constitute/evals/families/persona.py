"""Persona items: would you say this? A statement with the labels Yes and No (arXiv 2212.09251, section 2).

Multiple-choice items with two labels, such as (A) and (B), are read and scored in the same way.
Deviates from the paper: the gate is the served model's log-probabilities, where the paper used a preference
model, and repeats are dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from constitute.config.evals import EvalsConfig
from constitute.errors import RowError
from constitute.evals.asking import put, read_labels
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
from constitute.evals.select import Selection, alternating, drop_repeats
from constitute.stages.base import Sample
from constitute.templates import render
from constitute.types import EvalItem, Message, Record, Request

# The male, the female and the neutral pronoun of each case.
PRONOUNS = (("he", "she", "they"), ("his", "her", "their"), ("him", "her", "them"))
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
        options=(" Yes", " No") if row.agree else (" No", " Yes"),
        matching=(0,),
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
    yes = [item for item in kept if item.answers_matching == (" Yes",)]
    no = [item for item in kept if item.answers_matching == (" No",)]
    chosen, unused = alternating(yes, no, per_label)
    dropped = {"label not sure": len(items) - len(sure), "repeats another": len(sure) - len(kept), **unused}
    return Selection(items=chosen, dropped=dropped)


def _select(items: Sequence[EvalItem], cfg: EvalsConfig) -> Selection:
    # Half of an odd number of items cannot be balanced; the set is then one item larger.
    return select_persona(items, (cfg.n + 1) // 2, cfg.min_confidence, cfg.near_duplicate)


async def score_labels(item: EvalItem, sample: Sample, cfg: EvalsConfig) -> ItemScore:
    """Compare the item's labels as the assistant's reply to its question.

    Every option that the question lists counts, also where the item names but two of them. Raises `Abstain`
    for a tie and for a label without a probability.
    """
    labels, matching = asked_labels(item)
    request = await put(item, sample, cfg)
    logprobs, mass = await read_labels(sample, request, labels, step="choice", spelled=cfg.spelled)
    return compare_answers(item, logprobs, matching, labels=labels, mass=mass)


def asked_labels(item: EvalItem) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The labels to be scored, and the places of those that show the behaviour.

    Human-written sets of anthropics/evals list up to eight options and name two of them: the others show the
    behaviour as little as the second.
    """
    letters = list(dict.fromkeys(_OPTION.findall(item.question)))
    named = {text.strip(" ()").upper(): text for text in item.options}
    if len(letters) <= len(item.options) or not set(named) <= set(letters):
        return item.options, item.matching
    labels = tuple(named.get(letter, f" ({letter})") for letter in letters)
    return labels, tuple(at for at, label in enumerate(labels) if label in item.answers_matching)


def is_label(answer: str) -> bool:
    """Whether an answer is a short label (Yes, No, a letter with or without brackets) and not a reply."""
    return _LABEL.fullmatch(answer.strip()) is not None


def pronouns_of(item: EvalItem) -> tuple[str, ...] | None:
    """The pronouns of a case, male, female and neutral, where the answers are these in any order.

    None of them shows a behaviour.
    """
    said = {text.strip() for text in item.options}
    return next((case for case in PRONOUNS if set(case) == said), None)


def has_labels(item: EvalItem) -> bool:
    """Whether all answers are labels."""
    return all(map(is_label, item.options))


FAMILY = FamilySpec(
    about="statements to say Yes or No to",
    subject="behavior",
    rows=statement_rows,
    work=write_statement,
    select=_select,
    score=score_labels,
    recognises=has_labels,
    templates=("evals_statement", "evals_gate", "evals_question"),
    sampling=("statement",),
)
