"""Have a model write eval sets: candidates are written and judged, and the best distinct ones are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.constitution.read import load_configured, load_constitution
from constitute.engines.base import Engine
from constitute.errors import DataError, GateFailed, UsageError
from constitute.evals.controls import CONTROL, Controls, find_controls, grouped, named_controls
from constitute.evals.families import FAMILIES, family_spec
from constitute.evals.families.base import Written
from constitute.evals.items import dump_items, evals_dir, items_hash, slug
from constitute.evals.judgements import GateRecord
from constitute.evals.quality.base import Checked, Material
from constitute.evals.quality.check import check_set, choose
from constitute.evals.quality.datasheet import datasheet
from constitute.evals.select import Selection
from constitute.evals.subjects import check_subjects, named, shown_examples, subjects_of
from constitute.files import read_json, write_text
from constitute.pipeline.jobs import Job, Session, reasons, run_in_session
from constitute.progress import Progress
from constitute.stages.base import Sample
from constitute.templates import template_hash
from constitute.types import Constitution, EvalItem, Outcome, Principle, Record


class WrittenSet(Record):
    """A set and where it came from; `counts` and `dropped` add up from candidates to items kept.

    Where the set has `controls`, they are among the items and counted on their own.
    """

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
    controls: Controls | None = None
    checks: tuple[Checked, ...] = ()
    gate: GateRecord | None = None
    wanted: int = 0

    @property
    def too_few(self) -> str:
        """A sentence where less than `evals.min_kept` of the items wanted were kept, else empty."""
        kept = sum(CONTROL not in item.groups for item in self.items)
        if kept >= self.settings.min_kept * self.wanted:
            return ""
        least, lost = self.settings.min_kept, _lost(self.candidates, self.reasons, self.dropped)
        return (
            f"{self.name} has {kept} of the {self.wanted} items wanted, less than {least:.0%} "
            f"(evals.min_kept): {lost}"
        )


def write_sets(
    config: RunConfig,
    behaviors: Sequence[str],
    principle_ids: Sequence[str],
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> list[WrittenSet]:
    """Write and save a set for each behaviour, and one for the principles, in each of `evals.families`.

    Principles are named by id, or by 'all', and looked up in the configured constitution. `engine`, where
    given, answers in the place of `config.model` and is left open. Sets that pass are saved even where
    another does not; then raises `GateFailed`.
    """
    cfg = config.evals
    if not (behaviors or principle_ids or cfg.occupations):
        raise UsageError(
            "nothing to write items for; give --behavior \"flatters the user\" or --principle ID (or 'all')"
        )
    if not all(behavior.strip() for behavior in behaviors):
        raise UsageError('a behaviour is empty; give a verb phrase, such as --behavior "flatters the user"')
    if principle_ids and config.constitution is None:
        raise UsageError("--principle needs a --constitution FILE to look the principle up in")
    constitution = load_constitution(config.constitution, config.tags) if config.constitution else None
    chosen = pick_principles(constitution, principle_ids) if principle_ids and constitution else []
    check_subjects(cfg, behaviors, chosen)
    subjects = {
        kind: subjects_of(kind, cfg, behaviors, chosen, constitution if "all" in principle_ids else None)
        for kind in {family_spec(family).subject for family in cfg.families}
    }
    jobs: dict[str, Job[WrittenSet]] = {}
    for family in cfg.families:
        for subject, about in subjects[family_spec(family).subject]:
            name = _set_name(family, subject)
            if name in jobs:
                raise UsageError(f"two sets would be named {name!r}; word one of the behaviours differently")
            jobs[name] = partial(write_set, name, family, about)
    return run_in_session(
        config, list(jobs.values()), constitution=constitution, engine=engine, progress=progress
    )


def _set_name(family: str, subject: str) -> str:
    """The name of a set: its subject, and the family unless it is the first for such subjects."""
    kind = family_spec(family).subject
    first = next(name for name in FAMILIES if family_spec(name).subject == kind)
    # What has examples is named by a behaviour or a principle, for which others write, too.
    return subject if kind != "examples" and family == first else f"{subject}-{slug(family)}"


def check_principles(config: RunConfig) -> None:
    """Raise `UsageError` before a long run where a principle or a constitution of controls is not there."""
    if config.evals.principles:
        pick_principles(load_configured(config), config.evals.principles)
        for name in named_controls(config.evals):
            load_constitution(name)


def pick_principles(constitution: Constitution, ids: Sequence[str]) -> list[Principle]:
    """The principles named, or every one for 'all', in the constitution's order."""
    known = [principle.id for principle in constitution.principles]
    for identity in ids:
        if identity != "all" and identity not in known:
            raise UsageError(
                f"no principle {identity!r} in {constitution.name!r}; known: all, {', '.join(known)}"
            )
    return [p for p in constitution.principles if "all" in ids or p.id in ids]


async def write_set(name: str, family: str, subjects: Sequence[Any], session: Session) -> WrittenSet:
    """Write, judge, select and save the items of one set.

    `subjects` holds one behaviour, or the principles. Raises `GateFailed` where no item is kept.
    """
    spec, cfg = family_spec(family), session.config.evals
    templates = {template: template_hash(template) for template in spec.templates}
    sampling = cfg.model_dump(mode="json", include=set(spec.sampling))
    settings = {"sampling": sampling, "min_mass": cfg.min_mass, "prompts": templates}

    async def work(row: Any, sample: Sample) -> Written:
        return await spec.work(row, sample, cfg)

    outcomes = await session.outcomes(
        f"evals-write/{name}", settings, spec.rows(subjects, cfg), work, keep_truncated=spec.keeps_cut
    )
    candidates = [Written.model_validate(o.data).item for o in outcomes if o.status == "ok"]
    trained_on = () if session.config.prompts is None else (session.config.prompts,)
    material = Material(name, candidates, cfg, examples=shown_examples(subjects), training=trained_on)
    chosen = choose(material, spec.select, spec.checks)
    if not chosen.items:
        raise GateFailed(_nothing_kept(name, outcomes, chosen))
    items, controls = chosen.items, None
    if spec.subject == "principle" and named_controls(cfg):
        found, controls = await find_controls(items, subjects, spec, session)
        items = grouped(items, found)
    statuses = Counter(outcome.status for outcome in outcomes)
    written = WrittenSet(
        name=name,
        family=family,
        subjects=tuple(map(named, subjects)),
        items=items,
        items_hash=items_hash(items),
        model=session.model,
        templates=templates,
        settings=cfg,
        candidates=len(outcomes),
        counts={status: statuses[status] for status in ("ok", "abstain", "failed")},
        reasons=reasons(outcomes),
        dropped=chosen.dropped,
        controls=controls,
        checks=check_set(replace(material, items=items), spec.checks or ()),
        wanted=cfg.n * (len(subjects) if spec.subject in ("principle", "occupation") else 1),
    )
    save_written(session.config.run, written)
    return written


def _nothing_kept(name: str, outcomes: Sequence[Outcome], chosen: Selection) -> str:
    return f"no item of {name} survives its gate: " + _lost(len(outcomes), reasons(outcomes), chosen.dropped)


def _lost(candidates: int, failed: Mapping[str, int], dropped: Mapping[str, int]) -> str:
    """Why candidates are no items, and what to do."""
    lost = ", ".join(f"{why}: {n}" for why, n in sorted({**failed, **dropped}.items()) if n)
    return (
        f"{candidates} candidates ({lost}); "
        "write more with -n or evals.oversample, another --model, or another wording"
    )


def save_written(run_dir: Path, written: WrittenSet) -> Path:
    """Write `NAME.jsonl` (the items, anthropics/evals format), `NAME.json` (what made them) and `NAME.md`."""
    path = evals_dir(run_dir) / f"{written.name}.jsonl"
    write_text(path, dump_items(written.items))
    write_text(path.with_suffix(".json"), written.model_dump_json(indent=1) + "\n")
    write_text(path.with_suffix(".md"), datasheet(written.name, written.items, written.checks, written))
    return path


def load_written(run_dir: Path) -> list[WrittenSet]:
    """The sets written in a run, by name. Raises `DataError` for a broken record."""
    return [load_record(path) for path in sorted(evals_dir(run_dir).glob("*.json"))]


def load_record(path: Path) -> WrittenSet:
    """The record of one set. Raises `DataError` for a broken one."""
    try:
        return WrittenSet.model_validate(read_json(path))
    except ValidationError:
        raise DataError(f"{path} is not a record of `constitute evals write`; write the set again") from None
