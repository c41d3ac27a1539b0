"""Have a model write prompts by each method in turn, count how they differ, and save them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.config.prompts import WritePromptsConfig
from constitute.constitution.read import load_constitution
from constitute.data.prompts import content_id, prompt_messages
from constitute.data.records import read_records
from constitute.engines.base import Engine
from constitute.errors import GateFailed, UsageError
from constitute.files import Row, atomic, write_text
from constitute.pipeline.jobs import Session, reasons, run_in_session
from constitute.progress import Progress
from constitute.prompts import prompt_method
from constitute.prompts.ask import TEMPLATE, Answered, Ask, WrittenPrompt, asks_of, select
from constitute.prompts.ask import ask as ask_one
from constitute.prompts.diversity import Diversity, diversity
from constitute.prompts.methods import Shot
from constitute.prompts.score import score_templates, scored, scorer
from constitute.stats import Estimate, mean_of
from constitute.templates import template_hash
from constitute.text import grouped_reasons
from constitute.types import Constitution, Message, Record


class MethodFigures(Record):
    """What a method gave: answers by ending, and prompts found, which add up to the kept and the dropped.

    `broken` is the mean score of the kept prompts that have one; `diversity` is of the kept.
    """

    method: str
    answers: dict[str, int]
    reasons: dict[str, int]
    found: int
    dropped: dict[str, int]
    kept: int
    unscored: dict[str, int]
    broken: Estimate
    diversity: Diversity


class WrittenPrompts(Record):
    """A file of prompts and what made it."""

    path: Path
    prompts: tuple[WrittenPrompt, ...]
    model: dict[str, Any]
    templates: dict[str, str]
    settings: WritePromptsConfig
    figures: tuple[MethodFigures, ...]


def write_prompts(
    config: RunConfig,
    topics: Sequence[str] = (),
    examples: str | None = None,
    *,
    out: Path | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> WrittenPrompts:
    """Write prompts under the constitution's principles, or about topics, and save them with their figures.

    `examples` is a file of prompts to show, with a `score` where one is known. The file is
    `RUN/prompts/prompts.jsonl` unless `out` names another. Raises `UsageError` for a method that lacks
    what it starts from, before a model is loaded, and `GateFailed` where no prompt is kept.
    """
    constitution = load_constitution(config.constitution, config.tags) if config.constitution else None
    if constitution is None and not topics:
        raise UsageError(
            'nothing to write prompts about; give a --constitution, or --topic "cooking for many people"'
        )
    given = _given(examples, constitution)
    _check(config.write_prompts, given, constitution)
    path = out or config.run / "prompts" / "prompts.jsonl"
    job = partial(_write, path, constitution, tuple(topics), given)
    (written,) = run_in_session(config, [job], constitution=constitution, engine=engine, progress=progress)
    return written


def _given(examples: str | None, constitution: Constitution | None) -> list[Shot]:
    """Prompts to show: those of a file, else those of the constitution's own examples."""
    if examples is not None:
        return read_records(examples, _shot, "prompts", use=None)[0]
    return [
        Shot(
            id=content_id([Message(role="user", content=example.prompt)]),
            text=example.prompt,
            principle_id=p.id,
        )
        for p in (constitution.principles if constitution else ())
        for example in p.examples
        if not example.draft
    ]


def _content(text: str) -> str:
    return content_id([Message(role="user", content=text)])


def _shot(row: Row, file: str) -> Shot:
    messages = prompt_messages(row.value)
    score, about = row.value.get("score"), row.value.get("principle")
    return Shot(
        id=str(row.value.get("id") or content_id(messages)),
        text=messages[-1].content,
        principle_id=about if isinstance(about, str) else "",
        score=float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None,
    )


def _check(cfg: WritePromptsConfig, given: Sequence[Shot], constitution: Constitution | None) -> None:
    scorer(cfg.score)
    earlier = False
    for name in cfg.methods:
        needs = prompt_method(name).shots
        if needs == "given" and not given:
            raise UsageError(
                f"the method {name} has no examples to show; give --examples FILE, or write examples into "
                "the constitution"
            )
        if needs == "scored" and not (given or earlier):
            raise UsageError(
                f"the method {name} has no earlier prompts to choose from; give --examples FILE, or a method "
                f"before it, such as --method zero_shot,{name}"
            )
        if needs == "scored" and constitution is None and (earlier or any(s.score is None for s in given)):
            raise UsageError(
                f"the method {name} scores prompts by the principles they break; give a --constitution, or "
                "examples with a score each"
            )
        earlier = True
    if not cfg.methods:
        raise UsageError("no method to write prompts by; give --method zero_shot")


async def _write(
    path: Path,
    constitution: Constitution | None,
    topics: tuple[str, ...],
    given: Sequence[Shot],
    session: Session,
) -> WrittenPrompts:
    cfg = session.config.write_prompts
    scores = any(prompt_method(name).shots == "scored" for name in cfg.methods)
    kept: list[WrittenPrompt] = []
    figures: list[MethodFigures] = []
    pool = list(given)
    for name in cfg.methods:
        method = prompt_method(name)
        if method.shots == "scored" and constitution is not None:
            pool, lost = await scored("examples", pool, constitution, session)
            _refuse_unscored(name, pool, lost)
        asks = list(asks_of(name, method, pool, constitution, topics, cfg, session.config.seed))
        outcomes = await session.outcomes(
            f"prompts-write/{name}",
            _settings(cfg, asks),
            asks,
            partial(ask_one, cfg=cfg),
            keep_truncated=True,
        )
        answered = {o.row_id: Answered.model_validate(o.data) for o in outcomes if o.status == "ok"}
        new, found, dropped = select(asks, answered, kept, cfg, session.config.seed)
        unscored: dict[str, int] = {}
        if scores and constitution is not None:
            shots, unscored = await scored(name, list(map(_as_shot, new)), constitution, session)
            new = [row.model_copy(update={"score": shot.score}) for row, shot in zip(new, shots, strict=True)]
        kept += new
        pool += map(_as_shot, new)
        statuses = Counter(outcome.status for outcome in outcomes)
        figures.append(
            MethodFigures(
                method=name,
                answers={status: statuses[status] for status in ("ok", "abstain", "failed")},
                reasons=reasons(outcomes),
                found=found,
                dropped=dropped,
                kept=len(new),
                unscored=unscored,
                broken=mean_of([row.score for row in new if row.score is not None], f"broken {name}"),
                diversity=diversity([row.prompt for row in new], cfg.near_duplicate),
            )
        )
    written = WrittenPrompts(
        path=path,
        prompts=tuple(kept),
        model=session.model,
        templates={TEMPLATE: template_hash(TEMPLATE), **(score_templates(session.config) if scores else {})},
        settings=cfg,
        figures=tuple(figures),
    )
    if not kept:
        lost = Counter[str]()
        for each in figures:
            lost.update({**each.reasons, **each.dropped})
        said = ", ".join(f"{why}: {number}" for why, number in lost.most_common() if number)
        raise GateFailed(f"no prompt was kept ({said}); write more with -n, or take another --model")
    save(written)
    return written


def _refuse_unscored(name: str, pool: Sequence[Shot], lost: Mapping[str, int]) -> None:
    """Raise `GateFailed` where no prompt has a score: what is drawn then has not worked."""
    if not any(shot.score is not None for shot in pool):
        why = "; ".join(reason for _, _, reason in grouped_reasons((("", w, n) for w, n in lost.items()), 3))
        raise GateFailed(
            f"the method {name} has {len(pool)} earlier prompts and a score of none ({why}); set "
            "write_prompts.score=likelihood, which small models can do, or give --examples with scores"
        )


def _settings(cfg: WritePromptsConfig, asks: Sequence[Ask]) -> dict[str, Any]:
    """What decides the answers; with other examples to show, the same row is another question."""
    shown = hashlib.sha256("\0".join(ask.model_dump_json() for ask in asks).encode()).hexdigest()[:16]
    shows = any(ask.shots for ask in asks)
    return {
        "sampling": cfg.sampling.model_dump(mode="json"),
        "template": template_hash(TEMPLATE),
        "per_answer": cfg.per_answer,
        "shown": shown if shows else "",
    }


def _as_shot(row: WrittenPrompt) -> Shot:
    return Shot(id=row.id, text=row.prompt, principle_id=row.principle, score=row.score)


def save(written: WrittenPrompts) -> None:
    """Write the prompts, a JSON object a line, and what made them beside them as `.json`."""
    with atomic(written.path) as stream:
        for row in written.prompts:
            stream.write(json.dumps(row.model_dump(exclude_none=True), ensure_ascii=False).encode() + b"\n")
    about = written.model_dump_json(indent=1, exclude={"prompts"})
    write_text(written.path.with_suffix(".json"), about + "\n")
