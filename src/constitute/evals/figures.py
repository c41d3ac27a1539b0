"""From the scores of single items to the figures of a set."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from constitute.config.evals import EvalsConfig
from constitute.errors import GateFailed
from constitute.evals.families.base import ItemScore
from constitute.evals.metrics import METRICS, ROLES
from constitute.registry import registered
from constitute.significance import clustered_mean_of
from constitute.stats import Estimate, mean, share_of
from constitute.text import grouped_reasons
from constitute.types import EvalItem, Record


class SetScore(Record):
    """Share of items answered as the behaviour has it, and the mean P of that answer.

    `p_matching` is renormalised over the labels, `p_raw` is not. `mass` is the mean probability of all labels
    together and `thin` the share of items where it is below `evals.min_mass`; None for replies. `answered` is
    the share of items with a score; `unparsed` counts the others, by reason. `figures` are those of the
    set's own metric, `parts` the share in each part of the set, as `kind: part`.
    """

    share: Estimate
    p_matching: Estimate
    mass: float | None
    unparsed: dict[str, int]
    p_raw: Estimate | None = None
    thin: Estimate | None = None
    answered: Estimate | None = None
    figures: dict[str, Estimate] = Field(default={})
    parts: dict[str, Estimate] = Field(default={})

    @property
    def n_unparsed(self) -> int:
        """Items without a score."""
        return sum(self.unparsed.values())


def score_set(
    name: str,
    items: Sequence[EvalItem],
    scores: Sequence[ItemScore],
    unparsed: dict[str, int],
    cfg: EvalsConfig,
    metric: str | None = None,
) -> SetScore:
    """Share matching and mean P(matching), with intervals that draw whole contexts where items share them.

    Raises `GateFailed` where too few items were scored, or where all got the same log-probabilities.
    """
    refuse_unscored(name, len(items), unparsed, cfg)
    _refuse_constant(name, items, scores)
    seed = f"bootstrap {name}"
    # Another program's score may be no more than which answer it was.
    known = [(score, p) for score in scores if (p := score.p_matching) is not None]
    contexts = _contexts([score for score, _ in known])
    masses = [score.mass for score in scores if score.mass is not None]
    whole = len(masses) == len(scores)
    scored = list(zip(_items_of(items, scores), scores, strict=True))
    raw = [p * (score.mass or 0.0) for score, p in known]
    return SetScore(
        share=share_matching(name, scores, cfg),
        p_matching=clustered_mean_of([p for _, p in known], contexts, seed, cfg.resamples),
        p_raw=clustered_mean_of(raw, contexts, seed, cfg.resamples) if whole else None,
        mass=mean(masses) if masses else None,
        thin=share_of(sum(mass < cfg.min_mass for mass in masses), len(masses)) if whole else None,
        answered=share_of(len(scores), len(items)),
        figures=registered(METRICS, metric, "metric of evals")(scored, cfg) if metric else {},
        parts=_parts(name, scored, cfg),
        unparsed=unparsed,
    )


def refuse_unscored(name: str, n: int, unparsed: dict[str, int], cfg: EvalsConfig) -> None:
    """Raise `GateFailed` where none of `n` items has a score, or too few have."""
    missing = sum(unparsed.values())
    if missing == n or missing > cfg.max_unparsed * n:
        found = grouped_reasons((("", why, count) for why, count in unparsed.items()), most=None)
        listed = ", ".join(f"{reason}: {count}" for _, count, reason in found)
        raise GateFailed(
            f"{missing} of {n} items of {name} have no score ({listed}); "
            f"{_cause(unparsed)}, so no share is reported"
        )


def _cause(unparsed: dict[str, int]) -> str:
    """What the commonest reason comes to."""
    reason = max(unparsed, key=unparsed.__getitem__, default="")
    if reason.startswith("the prompt is"):
        return "the prompts are longer than the model reads"
    if reason.startswith("the judge"):
        return "the judge does not tell what the answers say"
    return "the model does not answer in this form"


def _items_of(items: Sequence[EvalItem], scores: Sequence[ItemScore]) -> list[EvalItem]:
    by_id = {item.id: item for item in items}
    return [by_id[score.id] for score in scores]


def with_groups(items: Sequence[EvalItem], scores: Sequence[ItemScore]) -> tuple[ItemScore, ...]:
    """The scores with the groups of their items, by which a result can be compared part by part."""
    pairs = zip(_items_of(items, scores), scores, strict=True)
    return tuple(score.model_copy(update={"groups": item.groups}) for item, score in pairs)


def part_names(groups: Sequence[tuple[str, str]]) -> list[str]:
    """The parts of its set that an item belongs to, each as `kind: part`."""
    return [f"{kind}: {part}" for kind, part in groups if kind not in ROLES]


def _parts(name: str, scored: Sequence[tuple[EvalItem, ItemScore]], cfg: EvalsConfig) -> dict[str, Estimate]:
    """The share matching in each part of the set."""
    held: dict[str, list[ItemScore]] = {}
    for item, score in scored:
        for part in part_names(item.groups):
            held.setdefault(part, []).append(score)
    return {part: share_matching(f"{name} {part}", scores, cfg) for part, scores in sorted(held.items())}


def share_matching(name: str, scores: Sequence[ItemScore], cfg: EvalsConfig) -> Estimate:
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
