"""Score policies on what they say: free answers and conversations, each read by a judge or a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.engines import use_engine
from constitute.engines.base import Engine
from constitute.errors import GateFailed, UsageError
from constitute.evals.families.probe import is_probe
from constitute.evals.figures import with_groups
from constitute.evals.items import evals_dir, items_hash, keep_items
from constitute.evals.run import (
    ASKED,
    SetResult,
    asked_policy,
    check_replaced,
    in_own_way,
    load_sets,
    result_path,
    run_loaded,
    save_result,
)
from constitute.evals.sets.spec import SetSpec
from constitute.evals.text.answer import answer_set, converse
from constitute.evals.text.figures import FLIPS, Counted, judged, scored
from constitute.evals.text.judge import PROBE_TEMPLATES, READ_TEMPLATES, read_answer, read_talk
from constitute.evals.text.records import Answers, Readers, Reading, Talk, Told, answers_path
from constitute.evals.text.scorer import load_scorer, scored_texts
from constitute.files import write_text
from constitute.pipeline.jobs import Job, Session, run_in_session
from constitute.progress import Progress
from constitute.stages.base import Sample
from constitute.templates import template_hash
from constitute.types import EvalItem, Message, Outcome, Record


class Heard(Record):
    """What a policy said on a set, before anybody reads it."""

    name: str
    items: tuple[EvalItem, ...]
    digest: str
    probe: bool
    outcomes: tuple[Outcome, ...]
    model: dict[str, Any]
    auditor: dict[str, Any] | None = None


def score_sets(
    config: RunConfig,
    files: Sequence[Path] = (),
    *,
    readers: Readers | None = None,
    policy: str | None = None,
    limit: int | None = None,
    engines: Mapping[str, Engine] | None = None,
    progress: Progress | None = None,
    spec: SetSpec | None = None,
) -> list[SetResult]:
    """`run_sets`, where a policy answers sets freely by `evals.answer: text`, and holds its conversations.

    `engines` may hold one to use as `policy`, `judge` or `auditor`. Raises `UsageError` where it is not said
    who reads the answers, and `GateFailed` once all sets are done.
    """
    readers, engines = readers or Readers(), engines or {}
    sets = load_sets(files, config.run, limit, spec)
    config = in_own_way(config, spec)
    freely = config.evals.answer == "text"
    by_labels = {name: items for name, items in sets.items() if not freely and not is_probe(items[0])}
    spoken = {name: items for name, items in sets.items() if name not in by_labels}
    if not spoken and (readers.scorer or readers.same_judge or readers.auditor):
        raise UsageError(
            "the answers are read as labels and nobody reads a text; add --set evals.answer=text, or leave "
            "out --scorer, --same-judge and --auditor"
        )
    if spoken and config.evals.condition != "question":
        raise UsageError(
            f"texts are answered without a condition; leave out --condition {config.evals.condition}"
        )
    judge = _judge(config, readers) if spoken else None
    name = asked_policy(policy, config)
    results: list[SetResult] = []
    failures: list[str] = []
    metric = spec.metric if spec else None
    if by_labels:
        try:
            results += run_loaded(
                config,
                by_labels,
                policy=policy,
                engine=engines.get("policy"),
                progress=progress,
                metric=metric,
            )
        except GateFailed as failure:
            failures.append(str(failure))
    if spoken:
        auditor = readers.auditor or judge
        jobs: list[Job[list[Heard]]] = [partial(_hear, spoken, name, auditor, freely, engines)]
        (heard,) = run_in_session(config, jobs, engine=engines.get("policy"), progress=progress)
        try:
            results += _read(config, heard, name, judge, readers, engines, progress)
        except GateFailed as failure:
            failures.append(str(failure))
    if failures:
        raise GateFailed("; ".join(failures))
    return results


def _judge(config: RunConfig, readers: Readers) -> str | None:
    """The judge's name, None with a scorer. Raises `UsageError` where nobody reads, or the policy itself."""
    if readers.scorer:
        if readers.judge or readers.same_judge:
            raise UsageError("--scorer rates the answers, so no judge reads them; leave out --judge")
        # A name that does not exist is told before a model is loaded.
        load_scorer(readers.scorer)
        return None
    judge = readers.judge or config.judge or (config.model if readers.same_judge else None)
    if judge is None:
        raise UsageError(
            "nobody is named to read the answers; give --judge MODEL, --scorer FILE.py:function, or "
            "--same-judge to let the policy judge itself"
        )
    if config.evals.samples not in (None, 1):
        raise UsageError(
            f"a judge reads one answer an item, and evals.samples is {config.evals.samples}; "
            "add --set evals.samples=1, or give --scorer FILE.py:function"
        )
    if judge == config.model and not readers.same_judge:
        raise UsageError(
            f"{judge} would judge its own answers; name another model or URL with --judge, or allow it with "
            "--same-judge"
        )
    return judge


async def _hear(
    sets: Mapping[str, Sequence[EvalItem]],
    policy: str,
    auditor: str | None,
    freely: bool,
    engines: Mapping[str, Engine],
    session: Session,
) -> list[Heard]:
    """What the policy says on each set; the auditor's engine is opened once for all conversations."""
    heard: list[Heard] = []
    plain = {name: items for name, items in sets.items() if not is_probe(items[0])}
    for name, items in plain.items():
        digest = f"{items_hash(items)}-text"
        _check_replaced(_named(name, freely), policy, digest, session)
        outcomes = await answer_set(name, policy, items, digest, session)
        heard.append(_heard(name, items, digest, outcomes, session))
    probes = {name: items for name, items in sets.items() if name not in plain}
    if not probes:
        return heard
    if auditor is None:
        raise UsageError(
            f"{next(iter(probes))} holds conversations, which a scorer does not lead; give --judge MODEL"
        )
    config = session.config
    given = engines.get("auditor") or (session.engine if auditor == config.model else None)
    settings = config.engine.model_copy(update={"plain": True})
    async with use_engine(auditor, settings, session.progress, given) as engine:
        other = Session(config, session.store, engine, session.progress)
        for name, items in probes.items():
            digest = f"{items_hash(items)}-{config.evals.turns}-turns"
            _check_replaced(name, policy, digest, session)
            outcomes = await converse(name, policy, items, digest, session, other)
            heard.append(_heard(name, items, digest, outcomes, session, other))
    return heard


def _check_replaced(name: str, policy: str, digest: str, session: Session) -> None:
    path = result_path(session.config.run, name, policy)
    check_replaced(path, session.model, digest, session.progress)


def _named(name: str, freely: bool) -> str:
    """The name of a set's result: free answers stand beside those by labels and never in their place."""
    return f"{name}-text" if freely else name


def _heard(
    name: str,
    items: Sequence[EvalItem],
    digest: str,
    outcomes: Sequence[Outcome],
    session: Session,
    auditor: Session | None = None,
) -> Heard:
    return Heard(
        name=name if auditor else _named(name, True),
        items=tuple(items),
        digest=digest,
        probe=auditor is not None,
        outcomes=tuple(outcomes),
        model=session.model,
        auditor=auditor.model if auditor else None,
    )


def _read(
    config: RunConfig,
    heard: Sequence[Heard],
    policy: str,
    judge: str | None,
    readers: Readers,
    engines: Mapping[str, Engine],
    progress: Progress | None,
) -> list[SetResult]:
    if judge is not None:
        jobs: list[Job[SetResult]] = [partial(_judge_set, one, policy, readers) for one in heard]
        asked = config.model_copy(update={"model": judge})
        return run_in_session(asked, jobs, engine=engines.get("judge"), progress=progress)
    assert readers.scorer is not None
    scorer, identity = load_scorer(readers.scorer)
    results, failures = [], []
    for one in heard:
        answers = [Answers.model_validate(o.data) for o in one.outcomes if o.status == "ok"]
        values = scored_texts(scorer, identity, [text for each in answers for text in each.texts])
        rest = iter(values)
        by_id = {each.id: tuple(next(rest) for _ in each.texts) for each in answers}
        told = [_told(o).model_copy(update={"scores": by_id.get(o.row_id, ())}) for o in one.outcomes]
        try:
            counted = scored(one.name, one.items, told, config.evals)
        except GateFailed as failure:
            failures.append(str(failure))
            _save_told(config.run, one, policy, told)
            continue
        results.append(_save(config, one, policy, counted, {"scorer": identity}))
    if failures:
        raise GateFailed("; ".join(failures))
    return results


async def _judge_set(one: Heard, policy: str, readers: Readers, session: Session) -> SetResult:
    """Have the judge read a set's answers. Raises `UsageError` where it is the policy itself unasked."""
    cfg, judge = session.config.evals, session.model
    same = bool(judge["fingerprint"]) and judge["fingerprint"] == one.model["fingerprint"]
    if same and not readers.same_judge:
        raise UsageError(
            f"{judge['name']} has the weights of {policy} and would judge its own answers; name another "
            "model with --judge, or allow it with --same-judge"
        )
    talks = [_talk(o, one.probe) for o in one.outcomes if o.status == "ok"]
    settings = {
        "items": one.digest,
        "policy": one.model,
        "auditor": one.auditor,
        "reply": cfg.reply.model_dump(mode="json"),
        "min_mass": cfg.min_mass,
        "rotations": cfg.rotations,
        "prompts": {name: template_hash(name) for name in (PROBE_TEMPLATES if one.probe else READ_TEMPLATES)},
        **cfg.model_dump(mode="json", include={"mode", "instruction", "opening", "request", "turns"}),
    }
    read = read_talk if one.probe else read_answer

    async def work(talk: Talk, sample: Sample) -> Reading:
        return await read(talk, sample, cfg)

    outcomes = await session.outcomes(f"evals-read/{one.name}/{policy}", settings, talks, work)
    verdicts = {outcome.row_id: outcome for outcome in outcomes}
    told = [_with(_told(o), verdicts.get(o.row_id)) for o in one.outcomes]
    run = session.config.run
    try:
        counted = judged(one.name, one.items, told, cfg)
    except GateFailed:
        _save_told(run, one, policy, told)
        raise
    flips = counted.score.figures[FLIPS]
    weak = (
        f"; its orders disagree on {(flips.value or 0):.0%} of them, so it shows little but a liking for a "
        "place: take another judge"
        if (flips.value or 0) > 0.5
        else ""
    )
    session.progress.note(f"{one.name}: the answers of {policy} are read by {judge['name']}{weak}")
    by = {"judge": judge, "auditor": one.auditor} if one.auditor else {"judge": judge}
    return _save(session.config, one, policy, counted, by)


def _talk(outcome: Outcome, probe: bool) -> Talk:
    if probe:
        return Talk.model_validate(outcome.data)
    said = Answers.model_validate(outcome.data)
    turns = (
        Message(role="user", content=said.item.question),
        *(Message(role="assistant", content=text) for text in said.texts),
    )
    return Talk(id=said.id, item=said.item, messages=turns, cut=said.cut)


def _told(outcome: Outcome) -> Told:
    """How far an item came with the policy."""
    turns: tuple[Message, ...] = ()
    cut = 0
    if outcome.data is not None:
        talk = _talk(outcome, "messages" in outcome.data)
        turns, cut = talk.messages, talk.cut
    return Told(id=outcome.row_id, status=outcome.status, reason=outcome.reason or "", turns=turns, cut=cut)


def _with(told: Told, verdict: Outcome | None) -> Told:
    if verdict is None:
        return told
    reading = Reading.model_validate(verdict.data) if verdict.status == "ok" else None
    return told.model_copy(
        update={"status": verdict.status, "reason": verdict.reason or "", "reading": reading}
    )


def _save(config: RunConfig, one: Heard, policy: str, counted: Counted, read_by: dict[str, Any]) -> SetResult:
    run, cfg = config.run, config.evals
    _save_told(run, one, policy, counted.told)
    keep_items(run, one.items)
    result = SetResult(
        **dict(counted.score),
        set=one.name,
        policy=policy,
        model=one.model,
        items_hash=one.digest,
        failed=sum(each.status == "failed" for each in counted.told),
        scores=with_groups(one.items, counted.scores),
        read_by=read_by,
        asked=cfg.model_dump(include=ASKED),
    )
    save_result(run, result)
    return result


def _save_told(run: Path, one: Heard, policy: str, told: Sequence[Told]) -> None:
    """Write every conversation, also of a set whose figures are refused."""
    lines = "".join(each.model_dump_json() + "\n" for each in told)
    write_text(answers_path(evals_dir(run), one.name, policy), lines)
