"""Ask a model what a constitution does: its votes on pairs, under other words and turned round, as findings.

The principles' own votes are asked first and serve every check; other wordings and the negation are asked
only about pairs that a principle decides, as no other pair has a label that could change.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from constitute.config import RunConfig
from constitute.editing.lint.asks import TRIES, Desks, ask_paraphrases, ask_votes, make_pairs, open_desks
from constitute.editing.lint.effects import (
    BOUNDS,
    PARAPHRASES,
    Bounds,
    contradictions,
    decided,
    negation,
    order_bias,
    redundancies,
    silence,
    wording,
)
from constitute.editing.lint.findings import Finding
from constitute.engines import open_engine
from constitute.engines.base import Engine
from constitute.errors import ConstituteError, UsageError
from constitute.packaged import find
from constitute.progress import Progress, Silent
from constitute.store import Store
from constitute.strict_yaml import parse_yaml, read_bytes
from constitute.templates import render
from constitute.types import Comparison, Constitution, Principle, Prompt

PAIRS = 64


@dataclass(frozen=True)
class Linted:
    """What the checks found on `pairs` pairs, and how the questions went.

    `equal` pairs had two equal answers, `failed` ones could not be sampled; neither is among `pairs`.
    """

    findings: tuple[Finding, ...]
    pairs: int
    equal: int
    failed: int
    asked: int
    reused: int


def run_lint_model(
    constitution: Constitution,
    config: RunConfig,
    progress: Progress,
    probes: Sequence[Prompt] | None,
    *,
    pairs: Sequence[Comparison] | None = None,
) -> list[Finding]:
    """Open `config.model`, run every check and return its findings; blocks until done.

    Answers are kept in the store at `config.run`, so that a second run asks only what changed. Raises
    `UsageError` without a model or anything to compare, `EngineError`, `StorageError`.
    """
    if config.model is None:
        raise UsageError("no model given; name one with --model, such as --model pocket")
    with Store.open(config.run) as store:
        for notice in store.notices:
            progress.note(notice)
        linted = _block(_opened(constitution, config, store, progress, probes, pairs))
    return list(linted.findings)


async def lint_model(
    constitution: Constitution,
    config: RunConfig,
    engine: Engine,
    store: Store,
    *,
    probes: Sequence[Prompt] | None = None,
    pairs: Sequence[Comparison] | None = None,
    bounds: Bounds = BOUNDS,
    progress: Progress | None = None,
) -> Linted:
    """Every check with an open engine; `config.limit` (32 where it is None) is the most pairs compared.

    Pairs are those given, else two responses to each probe: the principles' own, then `probes`. A
    principle of weight 0 labels nothing and is left out. Raises `UsageError` where there is no pair.
    """
    progress = progress or Silent()
    desks = open_desks(config, engine, store, progress)
    active = [p for p in constitution.principles if p.weight > 0]
    off = len(constitution.principles) - len(active)
    if off:
        progress.note(f"left out: {_count(off, 'principle')} of weight 0")
    most = config.limit or PAIRS
    failed = 0
    if pairs is None:
        pairs, failed = await make_pairs(constitution, config, desks, probes or (), most)
    kept = [pair for pair in pairs[:most] if pair.a != pair.b]
    equal = len(pairs[:most]) - len(kept)
    _announce(len(kept), equal, failed, len(pairs) - len(pairs[:most]), len(active), progress)
    findings = await _check(active, kept, config, desks, bounds)
    asked = sum(desk.asked for desk in (desks.generate, desks.label, desks.say))
    reused = sum(desk.reused for desk in (desks.generate, desks.label, desks.say))
    progress.note(f"{asked} questions asked, {reused} answered from {store.folder}")
    placed = tuple(_placed(findings, config))
    return Linted(placed, len(kept), equal, failed, asked, reused)


def questions(principles: int, pairs: int) -> int:
    """The most that can be asked: both orders under each wording, and the tries at other wordings."""
    return principles * (pairs * 2 * (1 + PARAPHRASES + 1) + TRIES)


async def _check(
    principles: Sequence[Principle],
    pairs: Sequence[Comparison],
    config: RunConfig,
    desks: Desks,
    bounds: Bounds,
) -> list[Finding]:
    """Ask the base votes, then other wordings, then the votes under those; every finding, check by check."""
    everywhere = list(range(len(pairs)))
    base, why = await ask_votes([(p.id, p, everywhere) for p in principles], pairs, config, desks)
    clear = {p.id: decided(base[p.id], bounds.margin) for p in principles}
    loud = [p for p in principles if clear[p.id]]
    said = await ask_paraphrases(loud, desks)
    jobs = []
    for p in loud:
        texts = {f"{p.id} {at}": text for at, text in enumerate(said[p.id][0])}
        texts[f"{p.id} negated"] = render("opposite", compare=p.compare)
        jobs += [(key, p.model_copy(update={"compare": text}), clear[p.id]) for key, text in texts.items()]
    other, lost = await ask_votes(jobs, pairs, config, desks)
    missing = [*why.values(), *lost.values()]
    if missing:
        count = sum(number for _, number in missing)
        desks.label.progress.note(
            f"{count} votes could not be had and are left out; the first: {missing[0][0]}"
        )
    found: list[Finding | None] = [*contradictions(base, bounds), *redundancies(base, bounds)]
    for p in loud:
        wordings = [other[f"{p.id} {at}"] for at in range(len(said[p.id][0]))]
        found.append(wording(p.id, base[p.id], wordings, said[p.id][1], bounds))
    found += [negation(p.id, base[p.id], other[f"{p.id} negated"], bounds) for p in loud]
    found += [order_bias(p.id, base[p.id], bounds, random.Random(config.seed)) for p in principles]
    found += [silence(p.id, base[p.id], why.get(p.id, ("", 0))[0], bounds) for p in principles]
    return [finding for finding in found if finding is not None]


def _announce(n: int, equal: int, failed: int, beyond: int, principles: int, progress: Progress) -> None:
    """Say what is compared, what is not, and the cost, before anything is asked about it."""
    left = {"of equal answers": equal, "that could not be sampled": failed, "beyond --limit": beyond}
    dropped = ", ".join(f"{count} {what}" for what, count in left.items() if count)
    if not n:
        raise UsageError(
            f"there is no pair to compare ({dropped or 'none was given'}); give more prompts, or raise "
            "generate.temperature so that two responses differ"
        )
    aside = f" (left out: {dropped})" if dropped else ""
    progress.note(
        f"{_count(principles, 'principle')} on {_count(n, 'pair')}{aside}: at most "
        f"{questions(principles, n)} questions, of them {principles * n * 2} for the first votes; "
        "stored answers are not asked again"
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _placed(findings: Sequence[Finding], config: RunConfig) -> list[Finding]:
    """The findings with the configuration's file and the place of their principle's id in it."""
    if config.constitution is None:
        return list(findings)
    try:
        path = find(config.constitution, "constitutions", ".yaml")
        listed = parse_yaml(read_bytes(path), path).entries["principles"].items
        ids = {node.entries["id"].scalar: node.entries["id"] for node in listed}
    except (ConstituteError, OSError, KeyError):
        # The file was changed or moved while the model was asked: the findings stand without a place.
        return list(findings)
    placed = []
    for finding in findings:
        node = ids.get(finding.principle)
        at = {"line": node.line, "column": node.column} if node else {}
        placed.append(finding.model_copy(update={"file": str(config.constitution), **at}))
    return placed


async def _opened(
    constitution: Constitution,
    config: RunConfig,
    store: Store,
    progress: Progress,
    probes: Sequence[Prompt] | None,
    pairs: Sequence[Comparison] | None,
) -> Linted:
    engine = open_engine(str(config.model), config.engine)
    try:
        return await lint_model(
            constitution, config, engine, store, probes=probes, pairs=pairs, progress=progress
        )
    finally:
        await engine.close()


def _block(job: Coroutine[Any, Any, Linted]) -> Linted:
    """Run `job` to its end; where a loop is running already, as in a notebook, in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(job)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, job).result()
