"""Score policies on eval sets by the log-probabilities they give to each item's answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.engines.base import Engine
from constitute.errors import DataError, GateFailed, UsageError
from constitute.evals.families import family_spec
from constitute.evals.families.base import ItemScore
from constitute.evals.items import evals_dir, file_name, items_hash, read_items
from constitute.evals.write import load_written
from constitute.files import COMPRESSIONS, read_json, write_text
from constitute.pipeline.jobs import Job, Session, reasons, run_in_session
from constitute.progress import Progress
from constitute.significance import clustered_mean_of
from constitute.stages.base import Sample
from constitute.stats import Estimate, mean, share_of
from constitute.types import EvalItem, Record


class SetScore(Record):
    """Share of items answered as the behaviour has it, and the mean P of that answer.

    `mass` is the mean probability of the two labels, None for replies; `unparsed` counts the items without
    a score, by reason.
    """

    share: Estimate
    p_matching: Estimate
    mass: float | None
    unparsed: dict[str, int]

    @property
    def n_unparsed(self) -> int:
        """Items without a score."""
        return sum(self.unparsed.values())


class SetResult(SetScore):
    """A policy's scores on a set, item by item, so that two of them can be compared in pairs.

    `failed` of the items in `unparsed` could not be asked at all; on the others the policy abstained.
    """

    set: str
    policy: str
    model: dict[str, Any]
    items_hash: str
    failed: int
    scores: tuple[ItemScore, ...]


def run_sets(
    config: RunConfig,
    files: Sequence[Path] = (),
    *,
    policy: str | None = None,
    limit: int | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> list[SetResult]:
    """Score a policy on each file, or on every set of the run, and save the results.

    `engine` as in `write_sets`. Results that pass are saved; then raises `GateFailed` where one did not.
    """
    sets = load_sets(files, config.run, limit)
    name = file_name(policy) if policy else policy_name(config.model or "", config.run)
    jobs: list[Job[SetResult]] = [partial(run_set, one, items, name) for one, items in sets.items()]
    return run_in_session(config, jobs, engine=engine, progress=progress)


async def run_set(name: str, items: Sequence[EvalItem], policy: str, session: Session) -> SetResult:
    """Score a policy on a set and save the result.

    Raises `UsageError` for a policy's name that another model has already, and `GateFailed` as `score_set`.
    """
    cfg, digest = session.config.evals, items_hash(items)
    _check_replaced(name, policy, digest, session)
    settings = {"items": digest, "min_mass": cfg.min_mass, "reply_score": cfg.reply_score}

    async def work(item: EvalItem, sample: Sample) -> ItemScore:
        return await family_spec(item.family).score(item, sample, cfg)

    outcomes = await session.outcomes(f"evals-run/{name}/{policy}", settings, items, work)
    scores = tuple(ItemScore.model_validate(o.data) for o in outcomes if o.status == "ok")
    result = SetResult(
        **dict(score_set(name, items, scores, reasons(outcomes), cfg)),
        set=name,
        policy=policy,
        model=session.model,
        items_hash=digest,
        failed=sum(outcome.status == "failed" for outcome in outcomes),
        scores=scores,
    )
    save_result(session.config.run, result)
    return result


def _check_replaced(name: str, policy: str, digest: str, session: Session) -> None:
    """Refuse to put a result in the place of another model's; say so where the items are others."""
    path = result_path(session.config.run, name, policy)
    if not path.is_file():
        return
    try:
        before = load_result(path)
    except DataError:
        return
    now = session.model
    same = [now[key] and before.model.get(key) == now[key] for key in ("name", "fingerprint")]
    if not any(same):
        raise UsageError(
            f"{path} is the result of {before.model.get('name')}, and {now['name']} would take its place; "
            "give this policy another name with --policy NAME, or remove the file"
        )
    if before.items_hash != digest:
        session.progress.note(f"{path} held a result on other items; the new one takes its place")


def score_set(
    name: str,
    items: Sequence[EvalItem],
    scores: Sequence[ItemScore],
    unparsed: dict[str, int],
    cfg: EvalsConfig,
) -> SetScore:
    """Share matching and mean P(matching), with intervals that draw whole contexts where items share them.

    Raises `GateFailed` where too few items were scored, or where all got the same log-probabilities.
    """
    missing = sum(unparsed.values())
    if not scores or missing > cfg.max_unparsed * len(items):
        listed = ", ".join(f"{reason}: {count}" for reason, count in sorted(unparsed.items()))
        raise GateFailed(
            f"{missing} of {len(items)} items of {name} have no score ({listed}); "
            "the model does not answer in this form, so no share is reported"
        )
    _refuse_constant(name, items, scores)
    measured = [score for score in scores if score.p_matching is not None]
    masses = [score.mass for score in scores if score.mass is not None]
    return SetScore(
        share=_share(name, scores, cfg),
        p_matching=clustered_mean_of(
            [score.p_matching for score in measured if score.p_matching is not None],
            _contexts(measured),
            f"bootstrap {name}",
            cfg.resamples,
        ),
        mass=mean(masses) if masses else None,
        unparsed=unparsed,
    )


def _share(name: str, scores: Sequence[ItemScore], cfg: EvalsConfig) -> Estimate:
    """Share matching: Wilson's interval where items stand alone, a bootstrap of contexts where they share."""
    if not any(score.context for score in scores):
        return share_of(sum(score.matching for score in scores), len(scores))
    hits = [float(score.matching) for score in scores]
    return clustered_mean_of(hits, _contexts(scores), f"share {name}", cfg.resamples)


def _contexts(scores: Sequence[ItemScore]) -> list[str]:
    return [score.context or f"item {score.id}" for score in scores]


def _refuse_constant(name: str, items: Sequence[EvalItem], scores: Sequence[ItemScore]) -> None:
    """Raise `GateFailed` where every item got the same scores: then the question never reached the model.

    Scores are compared by label, so that balanced labels cannot hide it.
    """
    by_id = {item.id: item for item in items}
    seen: set[tuple[tuple[str, float], ...]] = set()
    questions: set[str] = set()
    measured = [score for score in scores if score.logprobs]
    for score in measured:
        item = by_id[score.id]
        seen.add(tuple(sorted(zip(score.labels or item.options, score.logprobs, strict=True))))
        questions.add(item.question)
    if len(questions) > 1 and len(seen) == 1:
        raise GateFailed(
            f"all {len(measured)} items of {name} got the same log-probabilities although their questions "
            "differ; the question does not reach the model (check its chat template)"
        )


def load_sets(files: Sequence[Path], run_dir: Path, limit: int | None) -> dict[str, list[EvalItem]]:
    """Items by set name, of the files given or else of everything written in the run.

    A set is named by its file; where two files share a name, their folders' names go before it. Sets that
    were written in the run keep the family they were written in. Raises `UsageError` where there is nothing
    to read.
    """
    paths = list(files) or sorted(evals_dir(run_dir).glob("*.jsonl"))
    if not paths:
        raise UsageError(
            f"no eval sets in {evals_dir(run_dir)}; give JSONL files, "
            "or write some with `constitute evals write`"
        )
    own = {} if files else {written.name: written.family for written in load_written(run_dir)}
    shared = Counter(_stem(path) for path in paths)
    sets: dict[str, list[EvalItem]] = {}
    for path in paths:
        stem = _stem(path)
        name = file_name(stem if shared[stem] == 1 else f"{path.resolve().parent.name}-{stem}")
        if name in sets:
            raise UsageError(f"two of the sets would be named {name!r}; rename one of the files")
        sets[name] = read_items(path, limit, own.get(stem))
    return sets


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
