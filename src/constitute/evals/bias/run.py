"""Score a policy on a bias set in each condition, and compare the conditions item by item.

Deviates from arXiv 2302.07459: the letters' probabilities are averaged over every rotation of the options, as
a small model prefers a letter; and the instruction has our own words.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.engines.base import Engine
from constitute.errors import Abstain, GateFailed, UsageError
from constitute.evals.bias import bias_set, condition
from constitute.evals.bias.base import Figure, OptionItem, OptionScore, Statistic
from constitute.evals.bias.read import Read, drawn, read_occupations, read_set
from constitute.evals.gate import log_sum
from constitute.evals.items import evals_dir, file_name
from constitute.evals.run import policy_name
from constitute.files import write_text
from constitute.pipeline.jobs import Session, reasons, run_in_session
from constitute.progress import Progress
from constitute.stages.base import Sample
from constitute.stats import Estimate, bootstrap_of, mean
from constitute.templates import render, template_hash
from constitute.types import Message, Record, Request, SamplingParams

_LETTERS = "ABCDEFGH"
_TEMPLATES = ("bias_question", "bias_answer", "bias_pronoun")
_ONE_TOKEN = SamplingParams(max_tokens=1, temperature=0.0)
_TIE = 1e-9


class ConditionResult(Record):
    """A condition's figures over the items with a score; `unparsed` counts the others by reason."""

    condition: str
    figures: dict[str, Estimate]
    n: int
    mass: float | None
    unparsed: dict[str, int]
    scores: tuple[OptionScore, ...]


class Difference(Record):
    """Second minus first condition, over the items both have a score for."""

    figure: str
    first: str
    second: str
    change: Estimate


class BiasResult(Record):
    """A policy on a set in several conditions. Intervals are bootstraps over the `groups` of items."""

    set: str
    kind: str
    policy: str
    model: dict[str, Any]
    items: int
    groups: int
    left_out: dict[str, int]
    conditions: tuple[ConditionResult, ...]
    differences: tuple[Difference, ...]


def run_bias(
    config: RunConfig,
    files: Sequence[Path],
    *,
    n: int | None = None,
    occupations: Path | None = None,
    policy: str | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> list[BiasResult]:
    """Score a policy on each file in every condition of `evals.conditions`, and save the results.

    Raises `UsageError` before a model is loaded, and `GateFailed` where a condition has too few scores.
    """
    if not files:
        raise UsageError("no file; give those of BBQ or Winogender, such as BBQ/data/Age.jsonl")
    for name in config.evals.conditions:
        condition(name)
    women = read_occupations(occupations)
    sets = [read_set(path, women) for path in files]
    name = file_name(policy) if policy else policy_name(config.model or "", config.run)
    jobs = [partial(_run, found, drawn(found.items, n, config.seed), name) for found in sets]
    return run_in_session(config, jobs, engine=engine, progress=progress)


async def _run(found: Read, items: Sequence[OptionItem], policy: str, session: Session) -> BiasResult:
    cfg = session.config.evals
    asked: dict[str, list[OptionScore]] = {}
    unparsed: dict[str, dict[str, int]] = {}
    for name in cfg.conditions:
        how = condition(name)
        settings: dict[str, Any] = {
            "min_mass": cfg.min_mass,
            "templates": [template_hash(template) for template in _TEMPLATES],
            "condition": how._asdict(),
        }
        if how.reasoned:
            settings["reasoning"] = cfg.reasoning.model_dump(mode="json")
        outcomes = await session.outcomes(
            f"evals-bias/{found.name}/{name}/{policy}",
            settings,
            items,
            partial(ask, name=name, cfg=cfg),
            keep_truncated=True,
        )
        asked[name] = [OptionScore.model_validate(o.data) for o in outcomes if o.status == "ok"]
        unparsed[name] = reasons(outcomes)
        if len(items) - len(asked[name]) > cfg.max_unparsed * len(items):
            listed = ", ".join(f"{why}: {number}" for why, number in unparsed[name].items())
            raise GateFailed(f"{name}: {len(asked[name])} of {len(items)} items have a score ({listed})")
    figures = bias_set(found.kind).figures
    result = BiasResult(
        set=found.name,
        kind=found.kind,
        policy=policy,
        model=session.model,
        items=len(items),
        groups=len({item.group for item in items}),
        left_out=found.left_out,
        conditions=tuple(
            ConditionResult(
                condition=name,
                figures=figures_of(figures, items, scores, cfg.resamples),
                n=len(scores),
                mass=mean([score.mass for score in scores]) if scores else None,
                unparsed=unparsed[name],
                scores=tuple(scores),
            )
            for name, scores in asked.items()
        ),
        differences=tuple(differences(figures, items, asked, cfg.resamples)),
    )
    folder = evals_dir(session.config.run) / "bias"
    write_text(folder / f"{found.name}--{policy}.json", result.model_dump_json(indent=1) + "\n")
    return result


async def ask(item: OptionItem, sample: Sample, name: str, cfg: EvalsConfig) -> OptionScore:
    """P of each option, the mean over all rotations. Raises `Abstain` for a tie and for too little mass."""
    k = len(item.options)
    read = await asyncio.gather(*(_rotation(item, shift, sample, name, cfg) for shift in range(k)))
    p = tuple(math.fsum(each[0][at] for each in read) / k for at in range(k))
    first, second = sorted(p, reverse=True)[:2]
    if first - second < _TIE:
        raise Abstain("tie")
    return OptionScore(id=item.id, p=p, mass=mean([mass for _, mass in read]))


async def _rotation(
    item: OptionItem, shift: int, sample: Sample, name: str, cfg: EvalsConfig
) -> tuple[list[float], float]:
    """P of each option in the item's own order, with option `shift` shown as (A); and the letters' mass."""
    how, k = condition(name), len(item.options)
    shown = [(at + shift) % k for at in range(k)]
    options = [item.options[at] for at in shown]
    text = render("bias_question", question=item.question, options=options, **how._asdict())
    turns: tuple[Message, ...] = (Message(role="user", content=text),)
    if how.reasoned:
        asked = Request(messages=turns, sampling=cfg.reasoning)
        said = (await sample.generate(asked, step=f"reason-{shift}")).text.strip()
        if not said:
            raise Abstain("the reasoning is empty")
        more = (Message(role="assistant", content=said), Message(role="user", content=render("bias_answer")))
        turns = (*turns, *more)
    letters = tuple(_LETTERS[:k])
    request = Request(messages=turns, sampling=_ONE_TOKEN)
    choice = await sample.choose(request, letters, step=f"answer-{shift}", spelled=True)
    logprobs = [value for value in choice.logprobs if value is not None]
    if len(logprobs) < k:
        raise Abstain("a letter was not scored")
    if choice.mass < cfg.min_mass:
        raise Abstain(f"label mass below {cfg.min_mass:g}")
    total = log_sum(logprobs)
    p = {at: math.exp(value - total) for at, value in zip(shown, logprobs, strict=True)}
    return [p[at] for at in range(k)], choice.mass


def figures_of(
    figures: Mapping[str, Figure],
    items: Sequence[OptionItem],
    scores: Iterable[OptionScore],
    resamples: int,
) -> dict[str, Estimate]:
    """Each figure with its interval by a bootstrap over groups of items."""
    by_id = {item.id: item for item in items}
    scored = [(by_id[score.id], score) for score in scores]
    return {
        name: _estimate(figure, figure.statistic, scored, f"bias {name}", resamples)
        for name, figure in figures.items()
    }


def _estimate(
    figure: Figure, statistic: Callable[[Any], float | None], rows: Sequence[Any], seed: str, resamples: int
) -> Estimate:
    """The statistic of the rows that are of the figure; a row begins with its item."""
    groups: dict[str, list[Any]] = {}
    for row in rows:
        if figure.of(row[0]):
            groups.setdefault(row[0].group, []).append(row)
    found = bootstrap_of(list(groups.values()), statistic, seed, resamples)
    return found.model_copy(update={"n": len(groups)}) if figure.per_group and found.n else found


def differences(
    figures: Mapping[str, Figure],
    items: Sequence[OptionItem],
    scores: Mapping[str, Sequence[OptionScore]],
    resamples: int,
) -> list[Difference]:
    """Each figure's change from each condition to each later one, on the items that both have a score for."""
    found: list[Difference] = []
    for first, second in combinations(scores, 2):
        a, b = ({score.id: score for score in scores[name]} for name in (first, second))
        both = [(item, a[item.id], b[item.id]) for item in items if item.id in a and item.id in b]
        for name, figure in figures.items():
            changed = partial(_change, figure.statistic)
            change = _estimate(figure, changed, both, f"change {name}", resamples)
            found.append(Difference(figure=name, first=first, second=second, change=change))
    return found


def _change(
    statistic: Statistic, rows: Sequence[tuple[OptionItem, OptionScore, OptionScore]]
) -> float | None:
    before = statistic([(item, first) for item, first, _ in rows])
    after = statistic([(item, second) for item, _, second in rows])
    return None if before is None or after is None else after - before


def write_pairs(path: Path, files: Sequence[Path], results: Sequence[BiasResult]) -> None:
    """Write the pairs of all results, without the instruction against with it."""
    rows: list[str] = []
    for file, result in zip(files, results, strict=True):
        rows += preference_rows(read_set(file, {}), result, "question", "instruction")
    write_text(path, "".join(f"{row}\n" for row in rows))


def preference_rows(found: Read, result: BiasResult, first: str, second: str) -> list[str]:
    """JSON lines with the plain question, the answer in the second condition chosen and the first rejected.

    Items answered alike in both give no pair. No judge has said that the second answer is better.
    """
    scores = {each.condition: {score.id: score for score in each.scores} for each in result.conditions}
    for name in (first, second):
        if name not in scores:
            raise UsageError(f"no answers in the condition {name}; scored were {', '.join(scores)}")
    rows = []
    for item in found.items:
        a, b = (scores[name].get(item.id) for name in (first, second))
        if a is None or b is None or a.choice == b.choice:
            continue
        prompt = render(
            "bias_question", question=item.question, options=item.options, instructed=False, reasoned=False
        )
        chosen, rejected = (f"({_LETTERS[s.choice]}) {item.options[s.choice]}" for s in (b, a))
        row = {"id": item.id, "prompt": prompt, "chosen": chosen, "rejected": rejected}
        row |= {"chosen_source": second, "rejected_source": first}
        rows.append(json.dumps(row, ensure_ascii=False))
    return rows
