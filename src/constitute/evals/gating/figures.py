"""How far judges agree with what is written, with one another and with people."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from constitute.config.evals import EvalsConfig
from constitute.evals.families.persona import has_labels
from constitute.evals.judgements import Band, Judged, JudgeFigures, Judgement
from constitute.evals.quality.base import parts_of, share_by
from constitute.stats import (
    Estimate,
    bootstrap_of,
    cohen_kappa,
    confidence_bins,
    correlation,
    kappa_of,
    krippendorff_alpha,
    share_of,
)
from constitute.types import EvalItem

_NOTHING = Estimate(value=None, low=None, high=None, n=0)
_OTHER = "other"
# What a rater said of an item, and the cluster it lies in.
Rated = tuple[Hashable, tuple[Hashable, ...]]


def judge_figures(
    items: Sequence[EvalItem],
    said: Judgement,
    cfg: EvalsConfig,
    people: Mapping[str, str] | None = None,
) -> JudgeFigures:
    """One judge's figures; `people` is the answer that most annotators chose, by item."""
    known = {one.id: one for one in said.judged if one.clear}
    clear = [item for item in items if item.id in known]
    parts = [parts_of(item) for item in clear]
    hits = [float((known[item.id].label.confidence or 0.0) > 0.5) for item in clear]
    about = [float((known[item.id].relevance.confidence or 0.0) >= cfg.min_relevance) for item in clear]
    sure = [
        (item.label_confidence, known[item.id].label.confidence or 0.0, part.cluster)
        for item, part in zip(clear, parts, strict=True)
        if item.label_confidence is not None
    ]
    seed = f"gate:{said.set}"
    return JudgeFigures(
        judge=said.judge,
        counts=said.counts,
        reasons=said.reasons,
        orders_disagree=len(said.judged) - len(known),
        agreement=share_by(hits, parts, seed, cfg.resamples),
        kappa=kappa_by([(p.cluster, _pair(p.item, known)) for p in parts], seed, cfg.resamples),
        relevant=share_by(about, parts, seed, cfg.resamples),
        spearman=_rank_correlation(sure, seed, cfg),
        bands=bands([(first, float(second > 0.5)) for first, second, _ in sure]),
        people=_against_people(clear, known, people or {}, cfg, seed),
    )


def answer_names(item: EvalItem) -> dict[str, str]:
    """A name for each answer: its label; of texts `first` or `second`, by their hash.

    Replies have no labels, and the file lists the better one first: named by place, all would be alike.
    """
    if has_labels(item):
        return {text: text.strip() for text in item.options}
    ordered = sorted(item.options, key=lambda text: hashlib.sha256(text.encode("utf-8", "replace")).digest())
    return dict(zip(ordered, ("first", "second", *map(str, range(3, len(ordered) + 1))), strict=False))


def written_answer(item: EvalItem) -> str:
    """The answer that the item calls that of the behaviour."""
    return answer_names(item)[item.answers_matching[0]]


def judged_answer(item: EvalItem, one: Judged) -> str:
    """The answer that a judge took for that of the behaviour.

    With more than two answers, which other one it was is not known.
    """
    others = item.answers_not_matching
    if (one.label.confidence or 0.0) > 0.5:
        return written_answer(item)
    return answer_names(item)[others[0]] if len(others) == 1 else _OTHER


def _pair(item: EvalItem, known: Mapping[str, Judged]) -> tuple[Hashable, Hashable]:
    return written_answer(item), judged_answer(item, known[item.id])


def kappa_by(rated: Sequence[Rated], seed: str, resamples: int) -> Estimate:
    """Cohen's kappa of two raters, with an interval that draws whole clusters.

    Where both always agree, the lower bound is Wilson's: no resample would differ.
    """
    if not rated:
        return _NOTHING
    pairs = [said for _, said in rated]
    agree = sum(a == b for a, b in pairs)
    names = {a for a, _ in pairs}
    if len(names) == 1:
        # A rater who says one thing of all agrees by chance alone: kappa says nothing of it.
        return Estimate(value=None, low=None, high=None, n=len(pairs))
    if agree == len(pairs):
        chance = sum((sum(a == name for a, _ in pairs) / len(pairs)) ** 2 for name in names)
        return kappa_of(agree, len(pairs), chance)
    return bootstrap_of(
        _grouped(rated),
        lambda both: cohen_kappa([a for a, _ in both], [b for _, b in both]),
        seed,
        min(resamples, 1000),
    )


def alpha_by(
    items: Sequence[EvalItem], judgements: Sequence[Judgement], cfg: EvalsConfig, *, written: bool
) -> Estimate:
    """Krippendorff's alpha of all judges, with `written` of the label too; unclear ones are missing."""
    known = [{one.id: one for one in said.judged if one.clear} for said in judgements]
    rated: list[Rated] = []
    for item in items:
        said: list[Hashable] = [written_answer(item)] if written else []
        said += [judged_answer(item, found[item.id]) for found in known if item.id in found]
        if len(said) > 1:
            rated.append((parts_of(item).cluster, tuple(said)))
    value = krippendorff_alpha([said for _, said in rated])
    if value is None:
        return Estimate(value=None, low=None, high=None, n=len(rated))
    if value == 1.0:
        names = [name for _, said in rated for name in said]
        chance = sum((names.count(name) / len(names)) ** 2 for name in set(names))
        return kappa_of(len(rated), len(rated), chance)
    return bootstrap_of(_grouped(rated), krippendorff_alpha, "alpha", min(cfg.resamples, 500))


def _grouped(rated: Sequence[tuple[Hashable, tuple[object, ...]]]) -> list[list[tuple[Any, ...]]]:
    groups: defaultdict[Hashable, list[tuple[Any, ...]]] = defaultdict(list)
    for cluster, said in rated:
        groups[cluster].append(said)
    return list(groups.values())


def _against_people(
    items: Sequence[EvalItem],
    known: Mapping[str, Judged],
    people: Mapping[str, str],
    cfg: EvalsConfig,
    seed: str,
) -> Estimate | None:
    rated: list[Rated] = [
        (parts_of(item).cluster, (people[item.id], judged_answer(item, known[item.id])))
        for item in items
        if item.id in people
    ]
    return kappa_by(rated, seed, cfg.resamples) if rated else None


def bands(points: Sequence[tuple[float, float]]) -> tuple[Band, ...]:
    """(written confidence, 1 where the judge confirms the label), in bins of equally many."""
    if not points:
        return ()
    return tuple(
        Band(low=found[0][0], high=found[-1][0], agreement=share_of(sum(hit for _, hit in found), len(found)))
        for found in confidence_bins(sorted(points))
    )


def _rank_correlation(sure: Sequence[tuple[float, float, str]], seed: str, cfg: EvalsConfig) -> Estimate:
    """Of (written confidence, judge's confidence, cluster); no interval where no resample differs."""
    found = bootstrap_of(
        _grouped([(cluster, (first, second)) for first, second, cluster in sure]),
        lambda both: spearman([a for a, _ in both], [b for _, b in both]),
        seed,
        min(cfg.resamples, 500),
    )
    return found.model_copy(update={"low": None, "high": None}) if found.low == found.high else found


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation, equal values sharing the mean of their ranks; None where a side does not vary."""
    return correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    places: defaultdict[float, list[int]] = defaultdict(list)
    for rank, value in enumerate(sorted(values), 1):
        places[value].append(rank)
    return [sum(places[value]) / len(places[value]) for value in values]
