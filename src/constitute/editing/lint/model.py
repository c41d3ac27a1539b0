"""Ask a model what a constitution does: its votes on pairs, under other words and turned round, as findings.

The principles' own votes are asked first and serve every check; other wordings and the negation are asked
only about pairs that a principle decides, as no other pair has a label that could change.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.editing.lint.asks import (
    TRIES,
    StageRuns,
    ask_paraphrases,
    ask_votes,
    make_pairs,
    open_runs,
)
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
from constitute.editing.lint.findings import Finding, Linted, place_findings
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.pipeline.session import dated, open_store
from constitute.progress import Progress, Silent
from constitute.store import Store
from constitute.templates import render
from constitute.types import Comparison, Constitution, Principle, Prompt

PAIRS = 64


@dataclass(frozen=True)
class ModelLint:
    """What the checks found on `pairs` pairs, and how the questions went.

    `equal` pairs had two equal answers, `failed` ones could not be sampled; neither is among `pairs`.
    """

    findings: tuple[Finding, ...]
    pairs: int
    equal: int
    failed: int
    asked: int
    reused: int


def lint_with_model(
    linted: Linted,
    config: RunConfig,
    *,
    probes: Sequence[Prompt] = (),
    pairs: Sequence[Comparison] | None = None,
    allow: Collection[str] = (),
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Linted:
    """`linted` with what the votes of `engine`, else of `config.model`, show; blocks until done.

    Answers are kept in the store at `config.run`, so that a second run asks only what changed. A file that
    cannot be loaded is returned as it is. Raises `UsageError` without a model or anything to compare,
    `EngineError`, `StorageError`.
    """
    constitution = linted.constitution
    if constitution is None:
        return linted
    if engine is None:
        named_model(config.model)
    progress = progress or Silent()

    async def opened(store: Store) -> ModelLint:
        async with use_engine(config.model, dated(config).engine, progress, engine) as used:
            return await lint_model(
                constitution, config, used, store, probes=probes, pairs=pairs, progress=progress
            )

    with open_store(config, progress) as store:
        found = block(opened(store)).findings
    placed, silenced = place_findings(found, linted.data, linted.file, allow)
    return linted._replace(findings=(*linted.findings, *placed), silenced=linted.silenced + silenced)


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
) -> ModelLint:
    """Every check with an open engine; `config.limit` (64 where it is None) is the most pairs compared.

    Pairs are those given, else two responses to each probe: the principles' own, then `probes`. A
    principle of weight 0 labels nothing and is left out. Raises `UsageError` where there is no pair.
    """
    progress = progress or Silent()
    runs = open_runs(config, engine, store, progress)
    active = [p for p in constitution.principles if p.weight > 0]
    off = len(constitution.principles) - len(active)
    if off:
        progress.note(f"left out: {_count(off, 'principle')} of weight 0")
    most = config.limit or PAIRS
    failed = 0
    if pairs is None:
        pairs, failed = await make_pairs(constitution, config, runs, probes or (), most)
    kept = [pair for pair in pairs[:most] if pair.a != pair.b]
    equal = len(pairs[:most]) - len(kept)
    _announce(len(kept), equal, failed, len(pairs) - len(pairs[:most]), len(active), progress)
    findings = await _check(active, kept, config, runs, bounds)
    asked = sum(run.asked for run in (runs.generate, runs.label, runs.say))
    reused = sum(run.reused for run in (runs.generate, runs.label, runs.say))
    progress.note(f"{asked} questions asked, {reused} answered from {store.folder}")
    return ModelLint(tuple(findings), len(kept), equal, failed, asked, reused)


def questions(principles: int, pairs: int) -> int:
    """The most that can be asked: both orders under each wording, and the tries at other wordings."""
    return principles * (pairs * 2 * (1 + PARAPHRASES + 1) + TRIES)


async def _check(
    principles: Sequence[Principle],
    pairs: Sequence[Comparison],
    config: RunConfig,
    runs: StageRuns,
    bounds: Bounds,
) -> list[Finding]:
    """Ask the base votes, then other wordings, then the votes under those; every finding, check by check."""
    everywhere = list(range(len(pairs)))
    base, why = await ask_votes([(p.id, p, everywhere) for p in principles], pairs, config, runs)
    clear = {p.id: decided(base[p.id], bounds.margin) for p in principles}
    loud = [p for p in principles if clear[p.id]]
    said = await ask_paraphrases(loud, runs)
    jobs = []
    for p in loud:
        texts = {f"{p.id} {at}": text for at, text in enumerate(said[p.id][0])}
        texts[f"{p.id} negated"] = render("opposite", compare=p.compare)
        jobs += [(key, p.model_copy(update={"compare": text}), clear[p.id]) for key, text in texts.items()]
    other, lost = await ask_votes(jobs, pairs, config, runs)
    missing = [*why.values(), *lost.values()]
    if missing:
        count = sum(number for _, number in missing)
        runs.label.progress.note(
            f"{count} votes could not be had and are left out; the first: {missing[0][0]}"
        )
    found: list[Finding | None] = [*contradictions(base, bounds), *redundancies(base, bounds)]
    for p in loud:
        wordings = [other[f"{p.id} {at}"] for at in range(len(said[p.id][0]))]
        found.append(wording(p.id, base[p.id], wordings, said[p.id][1], bounds))
    found += [negation(p.id, base[p.id], other[f"{p.id} negated"], bounds) for p in loud]
    found += [order_bias(p.id, base[p.id], bounds, config.seed) for p in principles]
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
