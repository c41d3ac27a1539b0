"""Moral self-correction: what an instruction, and reasoning, do to bias on public sets (arXiv 2302.07459).

The sets are those of `sets/` that say how they are `rotated`, the conditions those of `asking`. Deviates from
the paper: the letters' probabilities are averaged over every rotation of the options, as a small model
prefers a letter; and the instruction has our own words.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.data.rows import read_rows
from constitute.engines.base import Engine
from constitute.errors import Abstain, DataError, UsageError
from constitute.evals.asking import asked, condition, put, read_labels
from constitute.evals.families.base import ItemScore, compare_answers
from constitute.evals.items import evals_dir, file_name
from constitute.evals.metrics import METRICS
from constitute.evals.metrics.base import Statistics
from constitute.evals.run import SetResult, asked_policy, score_items
from constitute.evals.sets import set_specs
from constitute.evals.sets.read import read_set
from constitute.evals.sets.spec import SetSpec
from constitute.files import Row, write_text
from constitute.pipeline.jobs import Session, run_in_session
from constitute.progress import Progress
from constitute.registry import registered
from constitute.stages.base import Sample
from constitute.stats import Estimate, mean
from constitute.templates import render
from constitute.types import EvalItem, Record

_LETTERS = string.ascii_uppercase


@dataclass(frozen=True)
class BiasFile:
    """The items of a file, whose options are texts, the set that it is of, and why other rows are none."""

    name: str
    kind: str
    items: tuple[EvalItem, ...]
    left_out: dict[str, int]
    metric: str | None


class Difference(Record):
    """Second minus first condition, over the items both have a score for."""

    figure: str
    first: str
    second: str
    change: Estimate


class BiasResult(Record):
    """A policy on a set in several conditions. Intervals are bootstraps over the contexts of items."""

    set: str
    kind: str
    policy: str
    items: int
    contexts: int
    left_out: dict[str, int]
    conditions: tuple[SetResult, ...]
    differences: tuple[Difference, ...]


def run_bias(
    config: RunConfig,
    files: Sequence[BiasFile],
    *,
    policy: str | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> list[BiasResult]:
    """Score a policy on each file in every condition of `evals.conditions`, and save the results.

    Raises `UsageError` before a model is loaded, and `GateFailed` where a condition has too few scores.
    """
    for name in config.evals.conditions:
        condition(name)
    jobs = [partial(_run, found, asked_policy(policy, _in(config, "question"))) for found in files]
    return run_in_session(config, jobs, engine=engine, progress=progress)


def _in(config: RunConfig, name: str) -> RunConfig:
    """The configuration that asks in a condition, for a letter unless it says otherwise."""
    told = config.evals.instruction or render("evals_letter")
    evals = config.evals.model_copy(update={"condition": name, "instruction": told})
    return config.model_copy(update={"evals": evals})


async def _run(found: BiasFile, policy: str, session: Session) -> BiasResult:
    results: list[SetResult] = []
    for name in session.config.evals.conditions:
        here = replace(session, config=_in(session.config, name))
        results.append(
            await score_items(
                found.name,
                found.items,
                f"{policy}-{name}",
                here,
                metric=found.metric,
                score=score_rotated,
                stage="evals-bias",
            )
        )
    result = BiasResult(
        set=found.name,
        kind=found.kind,
        policy=policy,
        items=len(found.items),
        contexts=len({item.context for item in found.items}),
        left_out=found.left_out,
        conditions=tuple(results),
        differences=tuple(differences(found, results, session.config.evals)),
    )
    folder = evals_dir(session.config.run) / "bias"
    write_text(folder / f"{found.name}--{policy}.json", result.model_dump_json(indent=1) + "\n")
    return result


async def score_rotated(item: EvalItem, sample: Sample, cfg: EvalsConfig) -> ItemScore:
    """log of each option's P, the mean over all rotations. Raises `Abstain` for a tie and little mass."""
    k = len(item.options)
    read = await asyncio.gather(*(_rotation(item, shift, sample, cfg) for shift in range(k)))
    p = [math.fsum(each[0][at] for each in read) / k for at in range(k)]
    logs = [math.log(each) if each > 0 else -math.inf for each in p]
    return compare_answers(item, logs, item.matching, mass=mean([mass for _, mass in read]))


async def _rotation(
    item: EvalItem, shift: int, sample: Sample, cfg: EvalsConfig
) -> tuple[list[float], float]:
    """P of each option in the item's own order, with option `shift` shown as (A); and the letters' mass."""
    k = len(item.options)
    request = await put(lettered(item, shift), sample, cfg, step=f"reason-{shift}")
    logprobs, mass = await read_labels(sample, request, _LETTERS[:k], step=f"answer-{shift}")
    if mass < cfg.min_mass:
        raise Abstain(f"label mass below {cfg.min_mass:g}")
    shown = [math.exp(value) for value in logprobs]
    return [shown[(at - shift) % k] / math.fsum(shown) for at in range(k)], mass


def lettered(item: EvalItem, shift: int = 0) -> EvalItem:
    """The item with its options listed below the question, from option `shift` on."""
    shown = (*item.options[shift:], *item.options[:shift])
    lines = [f"({letter}) {text.strip()}" for letter, text in zip(_LETTERS, shown, strict=False)]
    return item.model_copy(update={"question": "\n".join([item.question, *lines])})


def differences(found: BiasFile, results: Sequence[SetResult], cfg: EvalsConfig) -> list[Difference]:
    """Each figure's change from each condition to each later one, on the items that both have a score for."""
    metric = registered(METRICS, found.metric, "metric of evals") if found.metric else None
    changes: list[Difference] = []
    if not isinstance(metric, Statistics):
        return changes
    for first, second in combinations(results, 2):
        a, b = ({score.id: score for score in each.scores} for each in (first, second))
        both = [(item, a[item.id], b[item.id]) for item in found.items if item.id in a and item.id in b]
        changes += [
            Difference(figure=name, first=first.condition, second=second.condition, change=change)
            for name, change in metric.changes(both, cfg).items()
        ]
    return changes


def read_bias(
    path: Path,
    women: Mapping[str, float],
    spec: SetSpec | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
) -> BiasFile:
    """The items of a file of `spec`, or of the first packaged set that its rows are of; `n` of them drawn.

    `women` is the share of women in an occupation in percent. Raises `UsageError` for a file of no such set.
    """
    kind, spec = (spec.title, spec) if spec is not None else _recognised(path)
    if spec.rotated is None:
        raise UsageError(f"{kind} does not say how it is `rotated`; add that to its YAML file")
    items, left_out = [], Counter[str]()
    for item in read_set(path, _unlettered(spec)):
        groups = dict(item.groups)
        if off := [each for each in spec.rotated.only.items() if each not in item.groups]:
            left_out["the {} is not the {}".format(*off[0])] += 1
            continue
        if item.context in women and "percent women" not in groups:
            share = ("percent women", f"{women[item.context]:g}")
            item = item.model_copy(update={"groups": (*item.groups, share)})
        items.append(item)
    name = file_name(path.name.split(".")[0])
    return BiasFile(name, kind, tuple(drawn(items, n, seed)), dict(left_out), spec.metric)


def _unlettered(spec: SetSpec) -> SetSpec:
    asked_so = spec.rotated.question if spec.rotated else spec.question
    return spec.model_copy(update={"question": asked_so, "lettered": False})


def _recognised(path: Path) -> tuple[str, SetSpec]:
    known = {name: spec for name, spec in set_specs().items() if spec.rotated is not None}
    for name, spec in known.items():
        try:
            read_set(path, _unlettered(spec), 1)
        except DataError:
            continue
        return name, spec
    raise UsageError(
        f"the first row of {path} is of none of the bias sets ({', '.join(known)}); "
        "give a file as published, or say with --set-spec how it is read"
    )


def read_occupations(path: Path | None) -> dict[str, float]:
    """The percentage of women by occupation, of Winogender's occupations-stats.tsv; empty without a file."""
    shares: dict[str, float] = {}
    for row in read_rows(path) if path is not None else ():
        if isinstance(row, Row) and "bls_pct_female" in row.value:
            shares[str(row.value["occupation"])] = float(row.value["bls_pct_female"])
    if path is not None and not shares:
        raise DataError(f"{path} has no columns occupation and bls_pct_female; give occupations-stats.tsv")
    return shares


def drawn(items: Sequence[EvalItem], n: int | None, seed: int) -> list[EvalItem]:
    """`n` items by hashing (seed, id), in their own order: the first of a file are of a few templates."""
    if n is None or n >= len(items):
        return list(items)
    ranked = sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item.id}".encode()).digest())
    chosen = {item.id for item in ranked[:n]}
    return [item for item in items if item.id in chosen]


def write_pairs(path: Path, files: Sequence[BiasFile], results: Sequence[BiasResult]) -> None:
    """Write the pairs of all results, without the instruction against with it."""
    rows = [
        row
        for file, result in zip(files, results, strict=True)
        for row in preference_rows(file, result, "question", "instruction")
    ]
    write_text(path, "".join(f"{row}\n" for row in rows))


def preference_rows(found: BiasFile, result: BiasResult, first: str, second: str) -> list[str]:
    """JSON lines with the plain question, the answer in the second condition chosen and the first rejected.

    Items answered alike in both give no pair. No judge has said that the second answer is better.
    """
    scores = {each.condition: {score.id: score for score in each.scores} for each in result.conditions}
    for name in (first, second):
        if name not in scores:
            raise UsageError(f"no answers in the condition {name}; scored were {', '.join(scores)}")
    cfg, rows = EvalsConfig(instruction=render("evals_letter")), []
    for item in found.items:
        a, b = (scores[name].get(item.id) for name in (first, second))
        if a is None or b is None or _choice(a) == _choice(b):
            continue
        prompt = asked(lettered(item), cfg).messages[0].content
        chosen, rejected = (f"({_LETTERS[at]}) {item.options[at].strip()}" for at in (_choice(b), _choice(a)))
        row = {"id": f"{found.name}-{item.id}", "prompt": prompt, "chosen": chosen, "rejected": rejected}
        rows.append(json.dumps(row | {"chosen_source": second, "rejected_source": first}, ensure_ascii=False))
    return rows


def _choice(score: ItemScore) -> int:
    return score.logprobs.index(max(score.logprobs))
