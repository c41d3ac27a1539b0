"""Have judges go through eval sets, keep what passes, and record who judged and how far they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from constitute.config import RunConfig
from constitute.engines.base import Engine
from constitute.errors import DataError, GateFailed, UsageError
from constitute.evals.families.probe import is_probe
from constitute.evals.gating.figures import alpha_by, judge_figures
from constitute.evals.gating.judge import PROMPTS, About, judge_item, templates_of
from constitute.evals.gating.select import gate_items
from constitute.evals.gating.sets import Asking, Ungated, abouts_of, ungated_sets
from constitute.evals.items import dump_items, file_name, items_hash
from constitute.evals.judgements import GateRecord, Judge, Judged, Judgement
from constitute.evals.quality.base import Material
from constitute.evals.quality.check import check_set
from constitute.evals.quality.datasheet import datasheet
from constitute.evals.reviewing import people_answers
from constitute.evals.run import policy_name
from constitute.evals.write import save_written
from constitute.files import read_json, write_text
from constitute.pipeline.jobs import Job, Session, reasons, run_in_session
from constitute.progress import Progress
from constitute.types import EvalItem, Record

if TYPE_CHECKING:
    from constitute.stages.base import Sample

# Below this share of items kept, a gate has failed: the set was written badly, or the judge is no good.
LEAST_KEPT = 0.5


class GatedSet(Record):
    """A set after the gate, and how it came through."""

    name: str
    items: tuple[EvalItem, ...]
    gate: GateRecord

    @property
    def failed(self) -> bool:
        """Whether fewer than half of the items stay."""
        return self.gate.kept < LEAST_KEPT * self.gate.candidates


def gate_sets(
    config: RunConfig,
    files: Sequence[Path],
    judges: Sequence[str],
    asking: Asking,
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> list[GatedSet]:
    """Judge each set by each judge and put what passes in its place; the set before it is kept.

    Without `judges` the run's `judge` is asked, or the writer with `same_judge`. Judgements of earlier calls
    on the same items count too. Raises `UsageError` where the writer would judge itself unasked.
    """
    if asking.prompt not in PROMPTS:
        raise UsageError(f"no prompt {asking.prompt!r} for judges; give one of {', '.join(PROMPTS)}")
    sets = ungated_sets(config.run, files, asking)
    if scripts := [one.name for one in sets if any(is_probe(item) for item in one.items)]:
        raise UsageError(
            f"{scripts[0]} holds scripts of conversations, which have no label to judge; leave it out"
        )
    abouts = [abouts_of(one, config) for one in sets]
    for judge in _judges(config, judges, sets, asking):
        for one in sets:
            _refuse_same(one, {"name": judge}, asking)
        jobs: list[Job[Judgement]] = [
            partial(_judge_set, one, about, asking) for one, about in zip(sets, abouts, strict=True)
        ]
        judged = config.model_copy(update={"model": judge})
        for said, one in zip(
            run_in_session(judged, jobs, engine=engine, progress=progress), sets, strict=True
        ):
            save_judgement(one.folder, said)
    return [_gated(one, config) for one in sets]


def _judges(
    config: RunConfig, judges: Sequence[str], sets: Sequence[Ungated], asking: Asking
) -> tuple[str, ...]:
    if judges:
        return tuple(dict.fromkeys(judges))
    if config.judge:
        return (config.judge,)
    writers = {str(one.record.model["name"]) for one in sets if one.record}
    if asking.same_judge and (config.model or len(writers) == 1):
        return (config.model or writers.pop(),)
    raise UsageError(
        "no judge is named; give --judge MODEL with a model or URL other than the writer, "
        "or --same-judge to let the writer judge itself"
    )


def _same(one: Ungated, model: Mapping[str, object], prompt: str) -> tuple[bool | None, bool | None]:
    """(same model and prompt as the writer's, same model); None where the writer is not known."""
    if one.record is None:
        return None, None
    writer = one.record.model
    keys = [key for key in ("fingerprint", "name") if model.get(key) and writer.get(key)]
    alike = any(model[key] == writer[key] for key in keys)
    return alike and prompt == "own", alike


def _refuse_same(one: Ungated, model: Mapping[str, object], asking: Asking) -> None:
    if _same(one, model, asking.prompt)[0] and not asking.same_judge:
        raise UsageError(
            f"{model['name']} is the model that wrote {one.name} and would judge its own items; "
            "name another model or URL with --judge, ask in other words with --prompt choice, "
            "or allow it with --same-judge"
        )


async def _judge_set(
    one: Ungated, abouts: Mapping[str, About], asking: Asking, session: Session
) -> Judgement:
    _refuse_same(one, session.model, asking)
    cfg, digest = session.config.evals, items_hash(one.items)
    templates = templates_of(one.items, asking.prompt, cfg)
    words = sorted(
        (name, about.principle.model_dump_json() if about.principle else "") for name, about in abouts.items()
    )
    settings = {
        "items": digest,
        "about": words,
        "prompt": asking.prompt,
        "prompts": templates,
        "min_mass": cfg.min_mass,
    }

    async def work(item: EvalItem, sample: Sample) -> Judged:
        return await judge_item(item, abouts[item.behavior], asking.prompt, sample, cfg)

    outcomes = await session.outcomes(f"evals-gate/{one.name}", settings, one.items, work)
    statuses = Counter(outcome.status for outcome in outcomes)
    same, same_model = _same(one, session.model, asking.prompt)
    name = policy_name(session.config.model or str(session.model["name"]), session.config.run)
    return Judgement(
        set=one.name,
        items_hash=digest,
        judge=Judge(
            name=name if asking.prompt == "own" else f"{name}-{asking.prompt}",
            model=session.model,
            prompt=asking.prompt,
            templates=templates,
            same=same,
            same_model=same_model,
        ),
        counts={status: statuses[status] for status in ("ok", "abstain", "failed")},
        reasons=reasons(outcomes),
        judged=tuple(Judged.model_validate(o.data) for o in outcomes if o.status == "ok"),
    )


def save_judgement(folder: Path, said: Judgement) -> Path:
    """Write `gate/SET--JUDGE.json`; a later judgement of the same judge takes its place."""
    path = folder / "gate" / f"{said.set}--{file_name(said.judge.name)}.json"
    return write_text(path, said.model_dump_json(indent=1) + "\n")


def load_judgements(folder: Path, name: str, digest: str) -> list[Judgement]:
    """What judges said of these very items, by judge."""
    found: list[Judgement] = []
    for path in sorted((folder / "gate").glob("*.json")):
        try:
            found.append(Judgement.model_validate(read_json(path)))
        except ValidationError:
            raise DataError(f"{path} is not a judgement of `constitute evals gate`; remove it") from None
    return [said for said in found if (said.set, said.items_hash) == (name, digest)]


def _gated(one: Ungated, config: RunConfig) -> GatedSet:
    """What passes, saved; the set as written goes to `ungated` beside it. Keeps it all where none passes."""
    cfg, digest = config.evals, items_hash(one.items)
    said = load_judgements(one.folder, one.name, digest)
    material = Material(one.name, one.items, cfg)
    chosen, unclear = gate_items(material, [{j.id: j for j in each.judged} for each in said])
    people = people_answers(config.run, one.name, one.items)
    record = GateRecord(
        items_hash=digest,
        candidates=len(one.items),
        kept=len(chosen.items),
        dropped=chosen.dropped,
        kept_unclear=len(unclear),
        judges=tuple(judge_figures(one.items, each, cfg, people) for each in said),
        alpha=alpha_by(one.items, said, cfg, written=True),
        alpha_judges=alpha_by(one.items, said, cfg, written=False) if len(said) > 1 else None,
    )
    gated = GatedSet(name=one.name, items=chosen.items, gate=record)
    if chosen.items:
        _save(one, gated, replace(material, items=chosen.items))
    elif one.record is not None and not (one.folder / "ungated" / f"{one.name}.jsonl").is_file():
        # The set is as it was written; one that passed an earlier gate keeps the account of that.
        save_written(one.folder.parent, one.record.model_copy(update={"gate": record}))
    return gated


def _save(one: Ungated, gated: GatedSet, material: Material) -> None:
    checks = check_set(material)
    if one.record is None:
        path = one.folder / f"{one.name}.jsonl"
        write_text(path, dump_items(gated.items))
        write_text(path.with_suffix(".gate.json"), gated.model_dump_json(indent=1, exclude={"items"}) + "\n")
        write_text(path.with_suffix(".md"), datasheet(one.name, gated.items, checks, gate=gated.gate))
        return
    before = one.folder / "ungated" / f"{one.name}.jsonl"
    write_text(before, dump_items(one.items))
    write_text(before.with_suffix(".json"), one.record.model_dump_json(indent=1) + "\n")
    after = one.record.model_copy(
        update={
            "items": gated.items,
            "items_hash": items_hash(gated.items),
            "checks": checks,
            "gate": gated.gate,
        }
    )
    save_written(one.folder.parent, after)


def require_kept(gated: Sequence[GatedSet]) -> None:
    """Raise `GateFailed` where fewer than half of the items of a set stay."""
    if failed := [one for one in gated if one.failed]:
        told = "; ".join(
            f"{one.name}: {one.gate.kept} of {one.gate.candidates}{_left(one)}" for one in failed
        )
        raise GateFailed(
            f"fewer than half of the items pass ({told}); ask another model with --judge, or have a better "
            "--model write the set"
        )


def _left(one: GatedSet) -> str:
    return ", which are the set now" if one.items else ", so it is left as it was"
