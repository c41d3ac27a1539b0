"""Ask a model what a constitution does: its votes on pairs, under other words and turned round, as findings.

The principles' own votes are asked first and serve every check; other wordings and the negation are asked
only about pairs that a principle decides, as no other pair has a label that could change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.editing.lint.asks import (
    TRIES,
    StageRuns,
    answer_pairs,
    ask_paraphrases,
    ask_votes,
    first_examples,
    make_pairs,
    open_runs,
    read_text,
    reworded,
)
from constitute.editing.lint.between import (
    contradictions,
    leans_apart,
    mean_column,
    redundancies,
    suspects,
)
from constitute.editing.lint.effects import (
    BOUNDS,
    PARAPHRASES,
    Bounds,
    Column,
    decided,
    lean_most,
    negation,
    order_bias,
    preferred,
    silence,
    weak_judge,
    wording,
)
from constitute.editing.lint.findings import Finding, Linted, place_findings
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.pipeline.labelling import check_judge
from constitute.pipeline.session import dated, open_store
from constitute.progress import Progress, Silent
from constitute.stages.labels import label_method
from constitute.store import Store
from constitute.templates import render
from constitute.types import Comparison, Constitution, Principle, Prompt

PAIRS = 64
# Pairs on which paraphrases are asked beside those that a principle decides.
REWORDED = 32
# Where two principles are in doubt: more pairs for the louder one, and those that the other is asked about.
POOL, AGAIN = 128, 32


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

    Up to half of them are the principles' own examples. The others are those given, else two responses to
    each probe: the principles' own, then the examples' prompts, then `probes`. Two principles that pull apart
    on some pairs are asked about more. A principle of weight 0 labels nothing and is left out. Raises
    `UsageError` where there is no pair, or the judge cannot do what `config.label` needs.
    """
    progress = progress or Silent()
    check_judge(config.label, engine)
    runs = open_runs(config, engine, store, progress)
    active = [p for p in constitution.principles if p.weight > 0]
    off = len(constitution.principles) - len(active)
    if off:
        progress.note(f"left out: {_count(off, 'principle')} of weight 0")
    most = config.limit or PAIRS
    shown, owners = first_examples(constitution.model_copy(update={"principles": tuple(active)}), most // 2)
    spare: Sequence[Comparison] = ()
    failed = 0
    if pairs is None:
        asked_of = [*(pair.prompt for pair in shown), *(probes or ())]
        pairs, failed = await make_pairs(constitution, config, runs, asked_of, most - len(shown))
    else:
        pairs, spare = pairs[: most - len(shown)], [p for p in pairs[most - len(shown) :] if p.a != p.b]
    kept = [pair for pair in pairs if pair.a != pair.b]
    equal = len(pairs) - len(kept)
    _announce(len(shown), len(kept), equal, failed, len(spare), len(active), progress)
    asked_about = Asked(active, (*shown, *kept), owners, spare)
    findings = await _check(asked_about, config, runs, bounds)
    asked = sum(run.asked for run in (runs.generate, runs.label, runs.say))
    reused = sum(run.reused for run in (runs.generate, runs.label, runs.say))
    progress.note(f"{asked} questions asked, {reused} answered from {store.folder}")
    return ModelLint(tuple(findings), len(shown) + len(kept), equal, failed, asked, reused)


def questions(principles: int, pairs: int) -> int:
    """The most that can be asked: both orders under each wording, and the tries at other wordings."""
    return principles * (pairs * 2 * (1 + PARAPHRASES + 1) + TRIES)


@dataclass(frozen=True)
class Asked:
    """The principles that vote and the pairs they vote on: the first are examples, whose `owners` are named.

    `spare` pairs were given beyond the limit; two principles in doubt are asked about them too.
    """

    principles: Sequence[Principle]
    pairs: Sequence[Comparison]
    owners: Sequence[str]
    spare: Sequence[Comparison]


async def _check(asked: Asked, config: RunConfig, runs: StageRuns, bounds: Bounds) -> list[Finding]:
    """Ask the base votes, then other wordings, then the votes under those; every finding, check by check."""
    principles, pairs, method = asked.principles, asked.pairs, config.label.method
    everywhere = list(range(len(pairs)))
    base, why = await ask_votes([(p.id, p, everywhere) for p in principles], pairs, config, runs)
    clear = {p.id: decided(base[p.id], bounds.margin) for p in principles}
    loud = [p for p in principles if clear[p.id]]
    heard = [p for p in principles if any(base[p.id])] if len(principles) > 1 else loud
    # Where principles lean most, a wording that the judge reads better than the principle's own can show.
    where = lean_most([base[p.id] for p in heard], REWORDED) if len(principles) > 1 else []
    said = await ask_paraphrases(heard, method, runs)
    jobs = []
    for p in heard:
        texts = {f"{p.id} {at}": text for at, text in enumerate(said[p.id][0])}
        places = sorted({*clear[p.id], *where})
        jobs += [(key, reworded(p, method, text), places) for key, text in texts.items()]
    if label_method(method).form == "compare":
        for p in loud:
            text = render("opposite", compare=p.compare)
            jobs.append((f"{p.id} negated", reworded(p, method, text), clear[p.id]))
    other, lost = await ask_votes(jobs, pairs, config, runs)
    _tell_missing([*why.values(), *lost.values()], runs)
    wordings = {p.id: [other[f"{p.id} {at}"] for at in range(len(said[p.id][0]))] for p in heard}
    found: list[Finding | None] = [*await _compare(asked, base, wordings, said, config, runs, bounds)]
    for p in loud:
        found.append(wording(p.id, base[p.id], wordings[p.id], said[p.id][1], bounds))
    found += [
        negation(p.id, base[p.id], other[f"{p.id} negated"], bounds)
        for p in loud
        if f"{p.id} negated" in other
    ]
    if label_method(method).ordered:
        found += [order_bias(p.id, base[p.id], bounds, config.seed) for p in principles]
    found += [silence(p.id, base[p.id], why.get(p.id, ("", 0))[0], bounds) for p in principles]
    return [finding for finding in found if finding is not None]


async def _compare(
    asked: Asked,
    base: Mapping[str, Column],
    wordings: Mapping[str, Sequence[Column]],
    said: Mapping[str, tuple[list[str], int]],
    config: RunConfig,
    runs: StageRuns,
    bounds: Bounds,
) -> list[Finding]:
    """What the principles' votes show of each other, those left out that the judge does not understand."""
    # Every second example has the better answer as A.
    own: dict[str, list[bool]] = {p.id: [] for p in asked.principles}
    for at, name in enumerate(asked.owners):
        vote = base[name][at]
        if vote is not None:
            own[name].append(preferred(vote) == (1 if at % 2 else -1))
    weak, unheard = weak_judge(base, own, bounds)
    votes = {name: column for name, column in base.items() if name not in unheard}
    means = {name: mean_column(each) for name, each in wordings.items() if each and name in votes}
    found = contradictions(votes, means, bounds)
    doubted = suspects(votes, means, bounds)
    if doubted:
        found += await _ask_again(asked, doubted, votes, said, config, runs, bounds)
    return [*weak, *found, *redundancies(votes, bounds)]


async def _ask_again(
    asked: Asked,
    doubted: Sequence[tuple[str, str]],
    votes: Mapping[str, Column],
    said: Mapping[str, tuple[list[str], int]],
    config: RunConfig,
    runs: StageRuns,
    bounds: Bounds,
) -> list[Finding]:
    """Which principles in doubt contradict each other, by their votes on pairs that they have not seen.

    These are `spare` pairs, or two new responses each to the prompts on which the louder one leans most. The
    louder is asked first, and the other on those pairs that it decides.
    """
    runs.label.progress.note(
        f"{_count(len(doubted), 'comparison')} of two principles in doubt: asking about more pairs, at most "
        f"{len(doubted) * 2 * (POOL + AGAIN * (1 + PARAPHRASES))} questions"
    )
    by_id = {p.id: p for p in asked.principles}
    found: list[Finding | None] = []
    for two in doubted:
        louder, other = sorted(two, key=lambda name: -len(decided(votes[name], bounds.margin)))
        pool = await _unseen(asked, votes[louder], config, runs)
        everywhere = list(range(len(pool)))
        columns, _ = await ask_votes([(louder, by_id[louder], everywhere)], pool, config, runs)
        places = decided(columns[louder], bounds.margin)[:AGAIN]
        texts = [read_text(by_id[other], config.label.method), *(said[other][0] if other in said else ())]
        jobs = [
            (f"{other} {at}", reworded(by_id[other], config.label.method, text), places)
            for at, text in enumerate(texts)
        ]
        under, _ = await ask_votes(jobs, pool, config, runs)
        own = {louder: columns[louder], other: under[f"{other} 0"]}
        # Its own words first; the mean over all of them where the judge makes nothing of those.
        every = {**own, other: mean_column([under[key] for key, _, _ in jobs])}
        among = len(doubted)
        found.append(
            leans_apart(louder, other, own, among, bounds) or leans_apart(louder, other, every, among, bounds)
        )
    return [each for each in found if each is not None]


async def _unseen(asked: Asked, column: Column, config: RunConfig, runs: StageRuns) -> list[Comparison]:
    """At most `POOL` pairs that no principle has voted on, where the one of `column` is likely to speak."""
    if asked.spare:
        return list(asked.spare[:POOL])
    prompts = {(prompt := asked.pairs[at].prompt).id: prompt for at in lean_most([column], AGAIN)}
    fresh: dict[str, Comparison] = {}
    for samples in ((2, 3), (4, 5)):
        made, _ = await answer_pairs(list(prompts.values()), samples, config, runs)
        fresh |= {pair.id: pair for pair in made if pair.a != pair.b}
    return list(fresh.values())[:POOL]


def _tell_missing(missing: Sequence[tuple[str, int]], runs: StageRuns) -> None:
    if missing:
        count = sum(number for _, number in missing)
        runs.label.progress.note(
            f"{count} votes could not be had and are left out; the first: {missing[0][0]}"
        )


def _announce(
    examples: int, made: int, equal: int, failed: int, beyond: int, principles: int, progress: Progress
) -> None:
    """Say what is compared, what is not, and the cost, before anything is asked about it."""
    n = examples + made
    left = {"of equal answers": equal, "that could not be sampled": failed, "beyond --limit": beyond}
    dropped = ", ".join(f"{count} {what}" for what, count in left.items() if count)
    if not n:
        raise UsageError(
            f"there is no pair to compare ({dropped or 'none was given'}); give more prompts, or raise "
            "generate.temperature so that two responses differ"
        )
    aside = f", {_count(examples, 'example')} of principles among them" if examples else ""
    aside += f" (left out: {dropped})" if dropped else ""
    progress.note(
        f"{_count(principles, 'principle')} on {_count(n, 'pair')}{aside}: at most "
        f"{questions(principles, n)} questions, of them {principles * n * 2} for the first votes; "
        "stored answers are not asked again"
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
