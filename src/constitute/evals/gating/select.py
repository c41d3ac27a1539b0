"""Keep the items that every judge confirms, ranked by how sure they are, in a set that is balanced again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest

from constitute.config.evals import EvalsConfig
from constitute.evals.families.persona import has_labels
from constitute.evals.judgements import Judged
from constitute.evals.quality.base import Material
from constitute.evals.quality.check import enforced
from constitute.evals.select import Selection
from constitute.stats import mean
from constitute.types import EvalItem

UNCLEAR = "judge unclear"
WRONG = "label not confirmed"
OFF = "not about the behaviour"


def gate_items(
    material: Material, judgements: Sequence[Mapping[str, Judged]]
) -> tuple[Selection, tuple[str, ...]]:
    """The items kept, best first within each label, and the ids of those kept though a judge was unclear.

    `judgements` are what each judge said, by item; an item that is not there was not judged. An item is kept
    where every judge gives its label `min_confidence` and its relevance `min_relevance` at least, and ranked
    by the mean of both over all judges (arXiv 2212.09251, section 2). An unclear one ranks last.
    """
    cfg = material.cfg
    ranks: dict[str, float] = {}
    dropped: Counter[str] = Counter()
    unclear: set[str] = set()
    for item in material.items:
        why, rank = _verdict([judged.get(item.id) for judged in judgements], cfg)
        if why == UNCLEAR and cfg.gate_unclear == "keep":
            unclear.add(item.id)
        elif why:
            dropped[why] += 1
            continue
        ranks[item.id] = rank
    # Mending leaves out the items of the least label confidence: here that is the judges'.
    ranked = [
        item.model_copy(update={"label_confidence": ranks[item.id]})
        for item in material.items
        if item.id in ranks
    ]
    chosen = enforced(replace(material, items=ranked), Selection(items=tuple(ranked), dropped=dict(dropped)))
    stay = {item.id for item in chosen.items}
    kept = sorted((item for item in material.items if item.id in stay), key=lambda item: -ranks[item.id])
    return (
        Selection(items=tuple(_in_turn(kept)), dropped=chosen.dropped),
        tuple(item.id for item in kept if item.id in unclear),
    )


def _verdict(found: Sequence[Judged | None], cfg: EvalsConfig) -> tuple[str, float]:
    """Why an item is dropped, empty where it is kept; and its rank."""
    scores: list[float] = []
    why = ""
    for one in found:
        label, about = (None, None) if one is None else (one.label.confidence, one.relevance.confidence)
        if label is None or about is None:
            return UNCLEAR, 0.0
        if label <= 0.5 or label < cfg.min_confidence:
            why = WRONG
        elif about < cfg.min_relevance:
            why = why or OFF
        scores.append((label + about) / 2)
    return why, mean(scores)


def _in_turn(items: Sequence[EvalItem]) -> list[EvalItem]:
    """Items of each label in turn, as in the released files; replies by principle, one after the other."""
    groups: defaultdict[tuple[str, ...], list[EvalItem]] = defaultdict(list)
    labels = all(has_labels(item) for item in items)
    for item in items:
        groups[item.answers_matching if labels else (item.behavior,)].append(item)
    if not labels:
        return list(chain.from_iterable(groups.values()))
    ordered = [groups[key] for key in sorted(groups, reverse=True)]
    return [item for turn in zip_longest(*ordered) for item in turn if item is not None]
