"""Controls of a principle's set: items of other principles, judged to be none of its business.

A policy that learned the principle moves on the set's targets; one that changed in general moves on its
controls too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from constitute.config.evals import EvalsConfig
from constitute.constitution.read import load_constitution
from constitute.errors import UsageError
from constitute.evals.families.base import FamilySpec, Written
from constitute.evals.quality.base import Material
from constitute.evals.quality.check import choose
from constitute.evals.relevance import WAYS, Relevance
from constitute.evals.select import near_texts
from constitute.evals.subjects import shown_examples
from constitute.packaged import CONTROLS
from constitute.pipeline.jobs import Session, reasons
from constitute.stages.base import Sample
from constitute.templates import template_hash
from constitute.types import EvalItem, Outcome, Principle, Record

KIND = "kind"
TARGET, CONTROL = (KIND, "target"), (KIND, "control")


class Controls(Record):
    """Where a set's controls come from; `counts` add up to `candidates`, `kept` and `dropped` to its ok."""

    constitutions: tuple[str, ...]
    principles: tuple[str, ...]
    relevance: str
    templates: dict[str, str]
    candidates: int
    counts: dict[str, int]
    reasons: dict[str, int]
    dropped: dict[str, int]
    kept: int


class _Asked(Record):
    """A control, to be judged under each of the principles of the set's targets."""

    id: str
    item: EvalItem
    principles: tuple[Principle, ...]


class _Judged(Record):
    """What was said of a control, principle by principle, up to the first that speaks about it."""

    found: tuple[Relevance, ...]

    @property
    def reason(self) -> str:
        """Why it is no control; empty where it is one."""
        said = {one.related for one in self.found}
        return "a principle speaks about it" if True in said else "judge not sure" if None in said else ""


def named_controls(cfg: EvalsConfig) -> tuple[str, ...]:
    """The constitutions that give controls: those named, the built-in one for sets per principle, or none."""
    return cfg.controls or ((CONTROLS,) if cfg.per_principle else ())


def control_principles(names: Sequence[str], subjects: Sequence[Principle]) -> list[Principle]:
    """The principles of the constitutions named, each id once, without those that the set is about.

    Raises `UsageError` where none is left.
    """
    own = {principle.id for principle in subjects}
    found = {p.id: p for name in names for p in load_constitution(name).principles if p.id not in own}
    if not found:
        raise UsageError(
            f"no principle of {', '.join(names)} can give controls: the set is about all of them; "
            "name another constitution with --controls"
        )
    return list(found.values())


async def find_controls(
    targets: Sequence[EvalItem], subjects: Sequence[Principle], spec: FamilySpec, session: Session
) -> tuple[tuple[EvalItem, ...], Controls]:
    """As many controls as targets, where so many are found, and the account of them.

    They are written once a run for all sets, then judged under each principle of this one.
    """
    cfg = session.config.evals
    names = named_controls(cfg)
    principles = control_principles(names, subjects)
    # n is per principle: as many are written together as there are targets wanted.
    share = max(2, math.ceil(cfg.n * len(subjects) / len(principles)))
    outcomes, settings = await _written(principles, share, spec, session)
    candidates = [Written.model_validate(o.data).item for o in outcomes if o.status == "ok"]
    every = cfg.model_copy(update={"n": len(outcomes)})
    chosen = choose(Material("controls", candidates, every, examples=shown_examples(principles)), spec.select)
    unlike, repeats = _unlike(chosen.items, targets, cfg)
    queue = in_turn(unlike)
    kept, unfit, judged = await _enough(queue, len(targets), subjects, settings, session)
    dropped = Counter(chosen.dropped) + Counter(unfit)
    dropped += Counter({"repeats a target": repeats, "more than targets": len(queue) - judged})
    statuses = Counter(outcome.status for outcome in outcomes)
    template = WAYS[cfg.relevance][1]
    account = Controls(
        constitutions=names,
        principles=tuple(principle.id for principle in principles),
        relevance=cfg.relevance,
        templates={template: template_hash(template)},
        candidates=len(outcomes),
        counts={status: statuses[status] for status in ("ok", "abstain", "failed")},
        reasons=reasons(outcomes),
        dropped=dict(dropped),
        kept=len(kept),
    )
    return tuple(kept), account


async def _written(
    principles: Sequence[Principle], each: int, spec: FamilySpec, session: Session
) -> tuple[list[Outcome], dict[str, Any]]:
    """How the candidates for `each` items a principle end, and the settings that they were written with."""
    cfg = session.config.evals
    sampling = cfg.model_dump(mode="json", include=set(spec.sampling))
    templates = {template: template_hash(template) for template in spec.templates}
    settings = {"sampling": sampling, "min_mass": cfg.min_mass, "prompts": templates}

    async def write(row: Any, sample: Sample) -> Written:
        return await spec.work(row, sample, cfg)

    rows = spec.rows(principles, cfg.model_copy(update={"n": each}))
    return await session.outcomes("evals-write/controls", settings, rows, write), settings


def _unlike(
    controls: Sequence[EvalItem], targets: Sequence[EvalItem], cfg: EvalsConfig
) -> tuple[list[EvalItem], int]:
    """The controls that nearly repeat no target's message, and how many do."""
    seen = near_texts(cfg.near_duplicate)
    for item in targets:
        seen.like(item.id, item.question)
    unlike = [item for item in controls if seen.like(item.id, item.question) is None]
    return unlike, len(controls) - len(unlike)


async def _enough(
    queue: Sequence[EvalItem],
    wanted: int,
    subjects: Sequence[Principle],
    written: dict[str, Any],
    session: Session,
) -> tuple[list[EvalItem], dict[str, int], int]:
    """The first items that fit, how many before them do not and why, and how many were judged for it."""
    judged = min(wanted, len(queue))
    while True:
        fit, unfit = await _judged(queue[:judged], subjects, written, session)
        if len(fit) >= wanted or judged == len(queue):
            return fit, unfit, judged
        judged = min(len(queue), judged + wanted - len(fit))


async def _judged(
    items: Sequence[EvalItem], subjects: Sequence[Principle], written: dict[str, Any], session: Session
) -> tuple[list[EvalItem], dict[str, int]]:
    """The items that no principle speaks about, and how many are left out for each reason."""
    cfg = session.config.evals
    judge, template = WAYS[cfg.relevance]
    settings = {
        "written": written,
        "way": cfg.relevance,
        "prompt": template_hash(template),
        "min_preference": cfg.min_preference,
        "principles": [principle.model_dump(mode="json") for principle in subjects],
    }

    async def ask(row: _Asked, sample: Sample) -> _Judged:
        found: list[Relevance] = []
        for principle in row.principles:
            found.append(await judge(row.item, principle, sample, cfg))
            if found[-1].related is not False:
                break
        return _Judged(found=tuple(found))

    rows = [_Asked(id=item.id, item=item, principles=tuple(subjects)) for item in items]
    outcomes = await session.outcomes("evals-write/relevance", settings, rows, ask)
    said = {
        o.row_id: _Judged.model_validate(o.data).reason if o.status == "ok" else "relevance not judged"
        for o in outcomes
    }
    fit = [item for item in items if not said[item.id]]
    return fit, dict(Counter(reason for reason in said.values() if reason))


def in_turn(items: Sequence[EvalItem]) -> list[EvalItem]:
    """The first item of each principle, then the second of each, and so on."""
    held: dict[str, list[EvalItem]] = {}
    for item in items:
        held.setdefault(item.behavior, []).append(item)
    return [item for row in zip_longest(*held.values()) for item in row if item is not None]


def grouped(targets: Sequence[EvalItem], controls: Sequence[EvalItem]) -> tuple[EvalItem, ...]:
    """Targets, then controls, each in the group of its kind."""
    kinds = ((TARGET, targets), (CONTROL, controls))
    return tuple(
        item.model_copy(update={"groups": (*item.groups, kind)}) for kind, items in kinds for item in items
    )
