"""Write and score whole sets: rows in, a stage driven by whoever calls, one record of what happened out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

from constitute.config.evals import EvalsConfig
from constitute.errors import GateFailed
from constitute.evals.choice import ItemScore, score_item, score_set
from constitute.evals.items import items_hash, label_set
from constitute.evals.select import Selection, select_persona, select_replies
from constitute.evals.write import (
    Written,
    reply_rows,
    slug,
    statement_rows,
    write_reply,
    write_statement,
)
from constitute.stages.base import Sample
from constitute.store import Store
from constitute.templates import template_hash
from constitute.types import EvalItem, EvalResult, Outcome, Principle, Record

Work = Callable[[Any, Sample], Awaitable[Any]]
_TEMPLATES = {
    "persona": ("evals_statement", "evals_gate", "evals_question"),
    "reply": ("evals_request", "critique", "revise", "compare"),
}


class Drive(Protocol):
    """Runs `work` on every row under the stage's name and leaves the outcomes in the store."""

    def __call__(self, stage: str, rows: Sequence[Any], work: Work, *, total: int) -> Awaitable[Any]: ...


class WrittenSet(Record):
    """A set and where it came from; `counts` and `dropped` add up from candidates to items kept."""

    name: str
    family: str
    subjects: tuple[str, ...]
    items: tuple[EvalItem, ...]
    items_hash: str
    model: dict[str, Any]
    templates: dict[str, str]
    settings: EvalsConfig
    candidates: int
    counts: dict[str, int]
    reasons: dict[str, int]
    dropped: dict[str, int]


class SetResult(Record):
    """A policy's scores on a set, item by item, so that two of them can be compared in pairs.

    `failed` of the items in `unparsed` could not be asked at all; on the others the policy abstained.
    """

    set: str
    policy: str
    model: dict[str, Any]
    items_hash: str
    share: EvalResult
    p_matching: EvalResult
    mass: float | None
    unparsed: dict[str, int]
    failed: int
    scores: tuple[ItemScore, ...]


async def write_persona(
    behavior: str, *, drive: Drive, store: Store, model: Record, cfg: EvalsConfig
) -> WrittenSet:
    """Write, judge and select yes/no statements for a behaviour, given as a verb phrase.

    Raises `GateFailed` where no balanced pair of items survives.
    """
    name = slug(behavior)
    stage = _begin(store, f"evals-write/{name}", _write_settings(model, cfg, "persona"))
    rows = statement_rows(behavior, cfg)
    await drive(stage, rows, partial(write_statement, cfg=cfg), total=len(rows))
    outcomes = _outcomes(store, stage, {row.id for row in rows})
    # Half of an odd number of items cannot be balanced; the set is then one item larger.
    select = partial(select_persona, per_label=(cfg.n + 1) // 2, min_confidence=cfg.min_confidence)
    chosen = select(_candidates(outcomes), near_duplicate=cfg.near_duplicate)
    return _written(name, "persona", (behavior,), outcomes, chosen, model, cfg)


async def write_replies(
    name: str,
    principles: Sequence[Principle],
    *,
    drive: Drive,
    store: Store,
    model: Record,
    cfg: EvalsConfig,
) -> WrittenSet:
    """Write, judge and select reply pairs for principles: `cfg.n` items wanted of each.

    Raises `GateFailed` where no item survives.
    """
    stage = _begin(store, f"evals-write/{slug(name)}", _write_settings(model, cfg, "reply"))
    rows = reply_rows(principles, cfg)
    await drive(stage, rows, partial(write_reply, cfg=cfg), total=len(rows))
    outcomes = _outcomes(store, stage, {row.id for row in rows})
    select = partial(select_replies, per_principle=cfg.n, min_preference=cfg.min_preference)
    chosen = select(_candidates(outcomes), near_duplicate=cfg.near_duplicate)
    subjects = tuple(principle.id for principle in principles)
    return _written(slug(name), "reply", subjects, outcomes, chosen, model, cfg)


async def run_set(
    name: str,
    items: Sequence[EvalItem],
    *,
    policy: str,
    drive: Drive,
    store: Store,
    model: Record,
    cfg: EvalsConfig,
) -> SetResult:
    """Score a policy on a set. Raises `UsageError` for more than two labels, `GateFailed` as `score_set`."""
    label_set(items)
    digest = items_hash(items)
    settings = {
        "model": model.model_dump(mode="json"),
        "items": digest,
        "min_mass": cfg.min_mass,
        "reply_score": cfg.reply_score,
    }
    stage = _begin(store, f"evals-run/{name}/{policy}", settings)
    await drive(stage, items, partial(score_item, cfg=cfg), total=len(items))
    outcomes = _outcomes(store, stage, {item.id for item in items})
    scores = tuple(ItemScore.model_validate(o.data) for o in outcomes if o.status == "ok")
    result = score_set(name, items, scores, _reasons(outcomes), cfg)
    return SetResult(
        set=name,
        policy=policy,
        model=model.model_dump(mode="json"),
        items_hash=digest,
        share=result.share,
        p_matching=result.p_matching,
        mass=result.mass,
        unparsed=result.unparsed,
        failed=sum(outcome.status == "failed" for outcome in outcomes),
        scores=scores,
    )


def _written(
    name: str,
    family: str,
    subjects: tuple[str, ...],
    outcomes: Sequence[Outcome],
    chosen: Selection,
    model: Record,
    cfg: EvalsConfig,
) -> WrittenSet:
    statuses = Counter(outcome.status for outcome in outcomes)
    reasons, dropped = _reasons(outcomes), chosen.dropped
    if not chosen.items:
        lost = ", ".join(f"{why}: {n}" for why, n in sorted({**reasons, **dropped}.items()) if n)
        raise GateFailed(
            f"no item of {name} survives its gate: {len(outcomes)} candidates ({lost}); "
            "write more with -n, another --model, or another wording"
        )
    return WrittenSet(
        name=name,
        family=family,
        subjects=subjects,
        items=chosen.items,
        items_hash=items_hash(chosen.items),
        model=model.model_dump(mode="json"),
        templates={template: template_hash(template) for template in _TEMPLATES[family]},
        settings=cfg,
        candidates=len(outcomes),
        counts={status: statuses[status] for status in ("ok", "abstain", "failed")},
        reasons=reasons,
        dropped=dropped,
    )


def _candidates(outcomes: Sequence[Outcome]) -> list[EvalItem]:
    return [Written.model_validate(o.data).item for o in outcomes if o.status == "ok"]


def _outcomes(store: Store, stage: str, ids: set[str]) -> list[Outcome]:
    """The stage's outcomes of these rows; an earlier run may have asked for more of them."""
    return [outcome for outcome in store.outcomes(stage) if outcome.row_id in ids]


def _reasons(outcomes: Sequence[Outcome]) -> dict[str, int]:
    return dict(Counter(o.reason or o.status for o in outcomes if o.status != "ok").most_common())


def _write_settings(model: Record, cfg: EvalsConfig, family: str) -> dict[str, Any]:
    """Whatever could change an answer or a verdict; how many are wanted and kept could not."""
    names = ("statement",) if family == "persona" else ("request", "reply")
    return {
        "model": model.model_dump(mode="json"),
        "sampling": cfg.model_dump(mode="json", include=set(names)),
        "min_mass": cfg.min_mass,
        "prompts": {name: template_hash(name) for name in _TEMPLATES[family]},
    }


def _begin(store: Store, prefix: str, settings: dict[str, Any]) -> str:
    """The stage's name, which changes with its settings so that no other run's rows are taken for its own."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    stage = f"{prefix}/{digest}"
    store.put_meta(f"stage:{stage}", settings)
    return stage
