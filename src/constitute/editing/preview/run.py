"""One round of a preview: ask only what an edit touched, and keep what was shown."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from constitute.config import RunConfig
from constitute.constitution.priority import levels
from constitute.data.prompts import read_prompts
from constitute.editing.preview.plan import (
    Assigned,
    Edits,
    Moved,
    Preview,
    ShownProbe,
    assign,
    choose_probes,
    edits_between,
    fingerprint,
    split_touched,
    wordings,
)
from constitute.engines.base import Engine
from constitute.errors import Abstain, RowError
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Silent
from constitute.stages.base import stage_settings
from constitute.stages.few_shot import shows_own
from constitute.stages.generate import generate, response_id
from constitute.stages.labels.adaptive import voters
from constitute.stages.labels.pairs import pair_of_revision
from constitute.stages.labels.stage import label
from constitute.stages.revise import revise
from constitute.store import Store
from constitute.types import Constitution, LabelledPair, Prompt, Response

LEAST, MOST, USUAL = 8, 32, 16
STAGES = ("generate", "revise", "label")


@dataclass(frozen=True)
class RoundPlan:
    """What a round will ask: `touched` probes again, first those whose principle changed; `kept` stand.

    `order` holds all probe ids as they are listed; `edits` is None where there is nothing to compare with.
    """

    constitution: Constitution
    order: tuple[str, ...]
    touched: tuple[Assigned, ...]
    kept: tuple[ShownProbe, ...]
    before: Preview | None
    edits: Edits | None
    made_by: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Round:
    """How a round ended. `asked` questions went to the model; `questions` are those of the whole preview.

    `asked_probes` took at least one of them; `moved` came out otherwise. Times are in seconds.
    """

    preview: Preview
    asked: int
    questions: int
    asked_probes: int
    moved: int
    failed: int
    first_s: float | None
    seconds: float


def default_prompts() -> list[Prompt]:
    """The packaged probes: everyday questions and sensitive ones in turn."""
    import constitute.data.prompts as beside

    return read_prompts(Path(beside.__file__).with_name("probes.jsonl"))[0]


def plan_round(
    constitution: Constitution,
    others: Sequence[Prompt],
    n: int,
    config: RunConfig,
    made_by: str,
    before: Preview | None,
    *,
    retry_failed: bool = False,
) -> RoundPlan:
    """Choose the probes, give each its principle, and find which an edit since `before` touched."""
    probes, left_out = choose_probes(constitution, others, n)
    shown = shows_own(config.revise) or shows_own(config.label)
    level = levels(constitution) if config.label.rule == "priority" else None

    def marked(each: Assigned) -> Assigned:
        voting = _voters(each, config, constitution)
        digest = fingerprint(each, voting, examples=shown, ranks=level)
        return each.model_copy(update={"fingerprint": digest})

    assigned = [marked(each) for each in assign(constitution, probes, _row_id)]
    touched, kept = split_touched(assigned, before, retry_failed=retry_failed)
    now = wordings(constitution)
    return RoundPlan(
        constitution=constitution,
        order=tuple(probe.id for probe in probes),
        touched=tuple(touched),
        kept=tuple(kept),
        before=before,
        edits=None if before is None else edits_between(before.principles, now),
        made_by=made_by,
        notes=tuple(_notes(constitution, assigned, left_out, n)),
    )


async def run_round(
    plan: RoundPlan,
    config: RunConfig,
    engine: Engine,
    store: Store,
    tell: Callable[[Moved], None],
    judge: Engine | None = None,
) -> Round:
    """Ask the touched probes, telling each result as it comes; answers the store holds are not asked.

    Raises `EngineError`, `StorageError`; a probe that cannot be answered says so in its `problem`.
    """
    started = time.perf_counter()
    earlier = {} if plan.before is None else {shown.id: shown for shown in plan.before.probes}
    shown = {each.id: each for each in plan.kept}
    flights: dict[str, Any] = {}
    times: list[float] = []
    asked: list[int] = []
    moved = 0

    async def show_one(each: Assigned) -> None:
        nonlocal moved
        runs = {
            stage: StageRun(
                stage,
                judge if judge is not None and stage == "label" else engine,
                store,
                config.seed,
                Silent(),
                stage == "label" or getattr(config, stage).keep_truncated,
                in_flight=flights,
            )
            for stage in STAGES
        }
        result = await _show(each, config, plan.constitution, runs, store)
        change = Moved(before=earlier.get(result.id), after=result)
        shown[result.id] = result
        asked.append(sum(run.asked for run in runs.values()))
        moved += not change.same
        times.append(time.perf_counter() - started)
        tell(change)

    await run_jobs(plan.touched, show_one, config.engine.in_flight)
    listed = tuple(shown[name] for name in plan.order)
    return Round(
        preview=Preview(made_by=plan.made_by, principles=wordings(plan.constitution), probes=listed),
        asked=sum(asked),
        questions=sum(each.questions for each in listed),
        asked_probes=sum(count > 0 for count in asked),
        moved=moved,
        failed=sum(each.failed for each in listed),
        first_s=min(times, default=None),
        seconds=time.perf_counter() - started,
    )


def made_by(config: RunConfig, engine: Engine, judge: Engine | None = None) -> str:
    """16 hex digits of what decides a preview apart from the file: models, seed, settings and prompts."""
    settings = [
        stage_settings(stage, config, None, (judge or engine if stage == "label" else engine).identity)
        for stage in STAGES
    ]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def last_preview(store: Store, file: Path, made_by: str) -> tuple[Preview | None, str]:
    """The preview of `file` that the store keeps, or None and why it cannot be compared with ("" if none)."""
    kept = store.meta(_key(file))
    if kept is None:
        return None, ""
    try:
        preview = Preview.model_validate(kept)
    except ValidationError:
        return None, "the last preview was kept by another version of constitute, so there is no comparison"
    if preview.made_by != made_by:
        return None, "the last preview was made by another model or settings, so there is no comparison"
    return preview, ""


def keep_preview(store: Store, file: Path, preview: Preview) -> None:
    """Keep `preview` as the last one of `file`."""
    store.put_meta(_key(file), preview.model_dump(mode="json"))


async def _show(
    each: Assigned, config: RunConfig, constitution: Constitution, runs: dict[str, StageRun], store: Store
) -> ShownProbe:
    """One probe through the stages' own functions: response, critique and revision, label."""
    alone = constitution.model_copy(update={"principles": (each.principle,)})
    jury = alone if config.label.principles == "one" else constitution
    name = _row_id(each.probe.prompt.id)
    row: Response | None = None
    labelled: LabelledPair | None = None
    problem, cut, failed = "", "", False
    try:
        prompt = each.probe.prompt
        row = await generate(prompt, Sampler(runs["generate"], name), config.generate)
        row = await revise(row, Sampler(runs["revise"], row.id), config.revise, alone)
        pair = pair_of_revision(row)
        labelled = await label(pair, Sampler(runs["label"], pair.id), config.label, jury)
    except (RowError, Abstain) as reason:
        problem, failed = str(reason), isinstance(reason, RowError)
        problem, cut = _explained(problem, store, name, config)
    return ShownProbe(
        id=each.probe.id,
        messages=each.probe.prompt.messages,
        expect=each.probe.expect,
        principle_id=each.principle.id,
        fingerprint=each.fingerprint,
        response="" if row is None else row.response,
        steps=() if row is None else row.steps,
        p_revision=None if labelled is None else 1.0 - labelled.label.p_a,
        problem=problem,
        failed=failed,
        cut=cut,
        questions=sum(run.asked + run.reused for run in runs.values()),
    )


def _explained(problem: str, store: Store, row_id: str, config: RunConfig) -> tuple[str, str]:
    """The problem with what to do about it, and the text where it was cut short."""
    for stage, reason, answer in reversed(store.attempts_of(row_id)):
        if reason == problem and answer is not None and answer.get("finish_reason") == "length":
            now = getattr(config, stage).max_tokens
            advice = f"raise {stage}.max_tokens, such as --set {stage}.max_tokens={2 * now}"
            return f"{problem}; {advice}", str(answer.get("text") or answer.get("reasoning") or "")
    return problem, ""


def _row_id(prompt_id: str) -> str:
    return response_id(prompt_id, 0)


def _voters(each: Assigned, config: RunConfig, constitution: Constitution) -> list[Any]:
    """Who votes on a probe's pair: its principle, or as many as `label.principles` asks for."""
    if config.label.principles == "one":
        return [(each.principle, 1.0)]
    return voters(f"{_row_id(each.probe.prompt.id)}-rev", config.label, constitution)


def _notes(constitution: Constitution, assigned: Sequence[Assigned], left_out: int, n: int) -> list[str]:
    notes = []
    off = sorted(p.id for p in constitution.principles if p.weight == 0)
    held = {each.principle.id for each in assigned}
    missing = sorted(p.id for p in constitution.principles if p.weight > 0 and p.id not in held)
    if off:
        notes.append(f"{len(off)} of weight 0 not shown: {_some(off)}")
    if missing:
        wanted = f"; -n {MOST} shows more" if n < MOST else ""
        notes.append(f"{len(missing)} principles have no probe: {_some(missing)}{wanted}")
    if left_out:
        notes.append(f"{left_out} of the principles' own probes found no room among {n}")
    if len(assigned) < n:
        notes.append(f"{len(assigned)} probes, {n} were asked for: no more prompts")
    return notes


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _key(file: Path) -> str:
    return f"preview:{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]}"
