"""Score policies on eval sets by the log-probabilities they give to each item's answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.engines.base import Engine
from constitute.errors import DataError, GateFailed, RowError, UsageError
from constitute.evals.asking import CONDITION_TEMPLATES, asked, condition, form_of
from constitute.evals.families import family_spec
from constitute.evals.families.base import ItemScore
from constitute.evals.figures import SetScore, score_set, with_groups
from constitute.evals.items import evals_dir, file_name, items_hash, keep_items, read_items
from constitute.evals.sets.read import read_set
from constitute.evals.sets.spec import SetSpec
from constitute.evals.write import load_written
from constitute.files import COMPRESSIONS, read_json, write_text
from constitute.pipeline.jobs import Job, Session, reasons, run_in_session
from constitute.progress import Progress
from constitute.stages.base import Sample
from constitute.templates import template_hash
from constitute.types import EvalItem

# Settings that decide how items are asked and scored.
_ASKING = ("min_mass", "reply_score", "mode", "spelled", "instruction", "opening")
# Those that tell one way of asking from another.
ASKED = {"reply_score", "mode", "spelled", "instruction", "opening"}
# Questions whose prompts are compared before any is asked.
_COMPARED = 32


class SetResult(SetScore):
    """A policy's scores on a set, item by item, so that two of them can be compared in pairs.

    `failed` of the items in `unparsed` could not be asked at all; on the others the policy abstained.
    `read_by` says which judge, auditor or scorer read the answers, where the policy answered freely, and
    `asked` how it was asked: two policies that were asked otherwise differ by that, too.
    """

    set: str
    policy: str
    model: dict[str, Any]
    items_hash: str
    failed: int
    scores: tuple[ItemScore, ...]
    read_by: dict[str, Any] = Field(default={})
    condition: str = "question"
    asked: dict[str, Any] = Field(default={})


def run_sets(
    config: RunConfig,
    files: Sequence[Path] = (),
    *,
    policy: str | None = None,
    limit: int | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    spec: SetSpec | None = None,
) -> list[SetResult]:
    """Score a policy on each file, or on every set of the run, and save the results.

    `spec` says how the rows of the files become items, how they are asked and what is counted; `engine` as in
    `write_sets`. Results that pass are saved; then raises `GateFailed` where one did not.
    """
    sets = load_sets(files, config.run, limit, spec)
    config = in_own_way(config, spec)
    if config.evals.answer == "text":
        raise UsageError(
            "evals.answer is text, which a judge reads: use `constitute evals run --judge MODEL`, or "
            "constitute.evals.text.run.score_sets"
        )
    metric = spec.metric if spec else None
    return run_loaded(config, sets, policy=policy, engine=engine, progress=progress, metric=metric)


def run_loaded(
    config: RunConfig,
    sets: Mapping[str, Sequence[EvalItem]],
    *,
    policy: str | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    metric: str | None = None,
) -> list[SetResult]:
    """`run_sets` on sets that are read already."""
    name = asked_policy(policy, config)
    jobs: list[Job[SetResult]] = [
        partial(run_set, one, items, name, metric=metric if metric else _metric(items))
        for one, items in sets.items()
    ]
    return run_in_session(config, jobs, engine=engine, progress=progress)


def in_own_way(config: RunConfig, spec: SetSpec | None) -> RunConfig:
    """The configuration with the set's own way to ask where none is set."""
    return config if spec is None else config.model_copy(update={"evals": own_way(config.evals, spec)})


def asked_policy(policy: str | None, config: RunConfig) -> str:
    """The policy's name, with the condition behind it, so that conditions are compared as policies are.

    Raises `UsageError` for a condition that there is not, or that cannot be asked in.
    """
    cfg = config.evals
    if condition(cfg.condition).reasoned and form_of(cfg) == "bare":
        raise UsageError(
            f"the condition {cfg.condition} needs turns, and evals.mode is bare; set it to chat or plain"
        )
    name = file_name(policy) if policy else policy_name(config.model or "", config.run)
    return name if cfg.condition == "question" else f"{name}-{cfg.condition}"


def own_way(cfg: EvalsConfig, spec: SetSpec) -> EvalsConfig:
    """The settings with the set's own way to ask where none is set."""
    own: dict[str, Any] = {}
    if cfg.mode == "auto" and spec.mode is not None:
        own["mode"] = spec.mode
    for key in ("instruction", "opening"):
        if getattr(cfg, key) is None and getattr(spec, key):
            own[key] = getattr(spec, key)
    if cfg.answer == "auto":
        own["answer"] = spec.answer
    if cfg.samples is None:
        own["samples"] = spec.samples
    if spec.reply is not None and cfg.reply == type(cfg)().reply:
        own["reply"] = spec.reply
    return cfg.model_copy(update=own)


def _metric(items: Sequence[EvalItem]) -> str | None:
    """The metric of the family that all items are of."""
    families = {item.family for item in items}
    return family_spec(families.pop()).metric if len(families) == 1 else None


async def run_set(
    name: str, items: Sequence[EvalItem], policy: str, session: Session, *, metric: str | None = None
) -> SetResult:
    """Score a policy on a set and save the result, with the figures of `metric`.

    Raises `UsageError` for a policy's name that another model has already, and `GateFailed` as `score_set`.
    """
    path = result_path(session.config.run, name, policy)
    check_replaced(path, session.model, items_hash(items), session.progress)
    _refuse_one_prompt(name, items, session)
    if repeats := len(items) - len({(item.question, item.options) for item in items}):
        session.progress.note(
            f"{name}: {repeats} of {len(items)} items repeat another to the letter and count again; "
            "`constitute evals check --fix DIR` leaves them out"
        )
    if said := _said_beside(session.config.evals):
        session.progress.note(f"{name}: every question is asked with {said}")
    result = await score_items(name, items, policy, session, metric=metric)
    if warning := thin_warning(result, session.config.evals):
        session.progress.note(warning)
    keep_items(session.config.run, items)
    save_result(session.config.run, result)
    return result


Scorer = Callable[[EvalItem, Sample, EvalsConfig], Awaitable[ItemScore]]


async def _by_family(item: EvalItem, sample: Sample, cfg: EvalsConfig) -> ItemScore:
    return await family_spec(item.family).score(item, sample, cfg)


async def score_items(
    name: str,
    items: Sequence[EvalItem],
    policy: str,
    session: Session,
    *,
    metric: str | None = None,
    score: Scorer = _by_family,
    stage: str = "evals-run",
) -> SetResult:
    """Score a policy on items in the condition of the settings, and save nothing but its answers."""
    cfg, digest = session.config.evals, items_hash(items)
    settings = {"items": digest, **cfg.model_dump(include=set(_ASKING))}
    how = condition(cfg.condition)
    if how.instructed or how.reasoned:
        settings |= cfg.model_dump(mode="json", include={"condition", "reasoning"})
        settings["templates"] = [template_hash(each) for each in CONDITION_TEMPLATES]

    async def work(item: EvalItem, sample: Sample) -> ItemScore:
        return await score(item, sample, cfg)

    outcomes = await session.outcomes(
        f"{stage}/{name}/{policy}", settings, items, work, keep_truncated=how.reasoned
    )
    scores = tuple(ItemScore.model_validate(o.data) for o in outcomes if o.status == "ok")
    return SetResult(
        **dict(score_set(name, items, scores, reasons(outcomes), cfg, metric)),
        set=name,
        policy=policy,
        model=session.model,
        items_hash=digest,
        failed=sum(outcome.status == "failed" for outcome in outcomes),
        scores=with_groups(items, scores),
        condition=cfg.condition,
        asked=cfg.model_dump(include=ASKED),
    )


def _said_beside(cfg: EvalsConfig) -> str:
    """The instruction and the opening, which a run may remember from an earlier command; empty without."""
    given = {"instruction": cfg.instruction, "opening": cfg.opening}
    return " and ".join(f"evals.{key}={value!r}" for key, value in given.items() if value)


def thin_warning(result: SetResult, cfg: EvalsConfig) -> str:
    """What to try where most items are answered outside the labels; empty where they are not."""
    if result.thin is None or (result.thin.value or 0.0) <= 0.5:
        return ""
    count = round((result.thin.value or 0.0) * result.thin.n)
    return (
        f"{result.set}: on {count} of {result.thin.n} items {result.policy} gives the labels together less "
        f"than {cfg.min_mass:g} probability, so the scores rest on the little that it gives them; try "
        "--set evals.instruction='Answer with the label only.' or --set evals.opening='My answer is'"
    )


def _refuse_one_prompt(name: str, items: Sequence[EvalItem], session: Session) -> None:
    """Raise `GateFailed` where different questions make one and the same prompt."""
    first = {item.question: item for item in items[:_COMPARED]}
    try:
        prompts = {session.engine.rendered(asked(item, session.config.evals)) for item in first.values()}
    except RowError:
        return
    if len(first) > 1 and len(prompts) == 1:
        raise GateFailed(
            f"the {len(first)} first questions of {name} make one and the same prompt; "
            "the question does not reach the model (check its chat template)"
        )


def check_replaced(path: Path, now: Mapping[str, Any], digest: str, progress: Progress) -> None:
    """Refuse to put a result in the place of another model's; say so where the items are others."""
    if not path.is_file():
        return
    try:
        before = load_result(path)
    except DataError:
        return
    same = [now[key] and before.model.get(key) == now[key] for key in ("name", "fingerprint")]
    if not any(same):
        raise UsageError(
            f"{path} is the result of {before.model.get('name')}, and {now['name']} would take its place; "
            "give this policy another name with --policy NAME, or remove the file"
        )
    if before.items_hash != digest:
        progress.note(f"{path} held a result on other items; the new one takes its place")


def load_sets(
    files: Sequence[Path], run_dir: Path, limit: int | None, spec: SetSpec | None = None
) -> dict[str, list[EvalItem]]:
    """Items by set name, of the files given or else of everything written in the run.

    A set is named by its file; where two files share a name, their folders' names go before it. Sets that
    were written in the run keep the family they were written in. With a `spec`, files are read by it.
    Raises `UsageError` where there is nothing to read.
    """
    paths = list(files) or sorted(evals_dir(run_dir).glob("*.jsonl"))
    if not paths:
        raise UsageError(
            f"no eval sets in {evals_dir(run_dir)}; give JSONL files, "
            "or write some with `constitute evals write`"
        )
    own = {} if files else {written.name: written.family for written in load_written(run_dir)}
    return {
        name: read_set(path, spec, limit) if spec else read_items(path, limit, own.get(_stem(path)))
        for name, path in set_names(paths).items()
    }


def set_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Files by the names of their sets: their own, with the folder's before it where two share one."""
    shared = Counter(_stem(path) for path in paths)
    named: dict[str, Path] = {}
    for path in paths:
        stem = _stem(path)
        name = file_name(stem if shared[stem] == 1 else f"{path.resolve().parent.name}-{stem}")
        if name in named:
            raise UsageError(f"two of the sets would be named {name!r}; rename one of the files")
        named[name] = path
    return named


def _stem(path: Path) -> str:
    return path.with_suffix("").stem if path.suffix in COMPRESSIONS else path.stem


def policy_name(model: str, run_dir: Path) -> str:
    """A short name for a model: its place in the run, else the last telling part of its path or URL.

    So RUN/ppo is `ppo`, the name that `constitute run` gives it, and RUN/best-of-n/sft is `best-of-n-sft`.
    """
    path, run = Path(model).resolve(), run_dir.resolve()
    if not re.match(r"https?:", model) and path.is_dir() and path != run and path.is_relative_to(run):
        return file_name("-".join(path.relative_to(run).parts))
    parts = [
        part for part in re.split(r"[/\\]+", model) if part and part not in ("http:", "https:", ".", "v1")
    ]
    return file_name(parts[-1] if parts else model)


def result_path(run_dir: Path, name: str, policy: str) -> Path:
    """Where a policy's result on a set lies."""
    return evals_dir(run_dir) / "results" / f"{name}--{policy}.json"


def save_result(run_dir: Path, result: SetResult) -> Path:
    """Write `results/SET--POLICY.json`; a later result of the same policy takes its place."""
    path = result_path(run_dir, result.set, result.policy)
    return write_text(path, result.model_dump_json(indent=1) + "\n")


def load_result(path: Path) -> SetResult:
    """Read a result. Raises `UsageError` for a missing file and `DataError` for a broken one."""
    try:
        return SetResult.model_validate(read_json(path))
    except ValidationError:
        raise DataError(f"{path} is not a result of `constitute evals run`; run it again") from None


def load_results(run_dir: Path, policy: str | None = None) -> list[SetResult]:
    """Results of a run by set and policy, of one policy where `policy` is given."""
    paths = sorted((evals_dir(run_dir) / "results").glob("*.json"))
    results = [load_result(path) for path in paths]
    return [result for result in results if policy is None or result.policy == policy]
