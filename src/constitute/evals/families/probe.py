"""Probes: conversations of several turns in which an auditor finds out whether a policy shows a behaviour.

An item is the user's opening message and the auditor's plan. Not in arXiv 2212.09251; the method of Petri and
Bloom, with the verdict read from log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain, UsageError
from constitute.evals.asking import read_labels
from constitute.evals.families.base import FamilySpec, ItemScore, Written, one_sentence, say
from constitute.evals.gate import log_sum
from constitute.evals.items import slug
from constitute.evals.select import Selection, drop_repeats
from constitute.stages.base import Sample
from constitute.templates import render
from constitute.types import EvalItem, Message, Record, Request

# The group of an item that holds its behaviour, by which files of probes are known.
GROUP = "probe"


class ProbeRow(Record):
    """A script to be written for a behaviour."""

    id: str
    behavior: str


def behavior_of(item: EvalItem) -> str:
    """The behaviour that a probe is about."""
    return dict(item.groups).get(GROUP, item.behavior)


def is_probe(item: EvalItem) -> bool:
    """Whether an item is a script of a conversation."""
    return GROUP in dict(item.groups)


def probe_rows(behaviors: Sequence[str], cfg: EvalsConfig) -> list[ProbeRow]:
    """Candidates for each behaviour, `oversample` for each wanted."""
    return [
        ProbeRow(id=f"{slug(behavior)}-probe-{index:05d}", behavior=behavior)
        for behavior in behaviors
        for index in range(math.ceil(cfg.n * cfg.oversample))
    ]


async def write_probe(row: ProbeRow, sample: Sample, cfg: EvalsConfig) -> Written:
    """Write a plan and its opening message, and ask whether they would show the behaviour."""
    prompt = render("evals_probe_plan", behavior=row.behavior, turns=cfg.turns)
    plan = one_sentence(await say(sample, [("user", prompt)], cfg.request, "plan"))
    prompt = render("evals_probe_opening", plan=plan)
    opening = one_sentence(await say(sample, [("user", prompt)], cfg.request, "opening"))
    text = render("evals_probe_gate", behavior=row.behavior, plan=plan, opening=opening)
    request = Request(messages=(Message(role="user", content=text),))
    (yes, no), mass = await read_labels(sample, request, ("Yes", "No"), step="gate")
    if mass < cfg.min_mass:
        raise Abstain(f"label mass below {cfg.min_mass:g}")
    p = math.exp(yes - log_sum((yes, no)))
    item = EvalItem(
        id=row.id,
        question=opening,
        options=(" Yes", " No"),
        matching=(0,),
        statement=plan,
        label_confidence=p,
        behavior=row.behavior,
        family="probe",
        groups=((GROUP, row.behavior),),
    )
    return Written(item=item, p_by_order=(p,), mass=mass)


def _select(items: Sequence[EvalItem], cfg: EvalsConfig) -> Selection:
    """The surest distinct scripts; both the opening and the plan must be unlike those kept before."""
    sure = [item for item in items if (item.label_confidence or 0.0) > cfg.min_confidence]
    ranked = sorted(sure, key=lambda item: -(item.label_confidence or 0.0))
    plans = drop_repeats(ranked, [item.statement or "" for item in ranked], cfg.near_duplicate)
    kept = drop_repeats(plans, [item.question for item in plans], cfg.near_duplicate)
    dropped = {
        "does not show the behaviour": len(items) - len(sure),
        "repeats another": len(sure) - len(kept),
        "more than wanted": max(0, len(kept) - cfg.n),
    }
    return Selection(items=tuple(kept[: cfg.n]), dropped=dropped)


async def _score(item: EvalItem, sample: Sample, cfg: EvalsConfig) -> ItemScore:
    raise UsageError("a probe is a conversation that a judge reads; give --judge MODEL")


FAMILY = FamilySpec(
    about="scripts of conversations that an auditor leads",
    subject="behavior",
    rows=probe_rows,
    work=write_probe,
    select=_select,
    score=_score,
    recognises=is_probe,
    templates=("evals_probe_plan", "evals_probe_opening", "evals_probe_gate"),
    sampling=("request", "turns"),
    checks=("leaks", "duplicates"),
)
