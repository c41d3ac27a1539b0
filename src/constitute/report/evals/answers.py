"""One item as a page shows it: its options, what each policy gave them, and which parts it is of."""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.evals.families.base import ItemScore
from constitute.evals.families.persona import asked_labels, has_labels
from constitute.evals.figures import part_names
from constitute.evals.gate import log_sum
from constitute.report.page import clip
from constitute.types import EvalItem, Record

# Characters of an item's question and options together, so that a page of many has an end.
_LONGEST = 4000
_SHORTEST = 100
_SUMMARY = 160


class Option(Record):
    """An option with the probability that each policy gives it, None where it is not known."""

    text: str
    matching: bool
    ps: tuple[float | None, ...]


class Scored(Record):
    """What a policy did with an item: P of what matches, whether its answer does, and the answer."""

    p: float | None
    matching: bool
    answer: str


class ShownItem(Record):
    """An item of a page; `scores` are in the order of the policies, None where one has no score for it."""

    id: str
    summary: str
    question: str
    options: tuple[Option, ...]
    scores: tuple[Scored | None, ...]
    parts: tuple[str, ...]
    confidence: float | None


def shown_item(item: EvalItem, scores: Sequence[ItemScore | None]) -> ShownItem:
    """The item with the scores of policies; long texts are cut, and how much is said."""
    labels, matching = asked_labels(item) if has_labels(item) else (item.options, item.matching)
    limit = max(_SHORTEST, _LONGEST // (1 + len(labels)))
    columns = [option_ps(score, labels) for score in scores]
    options = tuple(
        Option(text=clip(label.strip(), limit), matching=at in matching, ps=tuple(ps[at] for ps in columns))
        for at, label in enumerate(labels)
    )
    asked = item.statement or item.question
    line = " ".join(asked.split())
    return ShownItem(
        id=item.id,
        summary=line if len(line) <= _SUMMARY else line[: _SUMMARY - 1] + "…",
        question=clip(item.question.strip(), limit),
        options=options,
        scores=tuple(_scored(score, ps, options) for score, ps in zip(scores, columns, strict=True)),
        parts=tuple(part_names(item.groups)),
        confidence=item.label_confidence,
    )


def option_ps(score: ItemScore | None, labels: Sequence[str]) -> list[float | None]:
    """P of each label among all, None where the score does not say it."""
    if score is None or not score.logprobs:
        return [None] * len(labels)
    own = score.labels or labels
    if len(own) != len(score.logprobs):
        return [None] * len(labels)
    total = log_sum(score.logprobs)
    by_label = {label: math.exp(value - total) for label, value in zip(own, score.logprobs, strict=True)}
    return [by_label.get(label) for label in labels]


def _scored(score: ItemScore | None, ps: Sequence[float | None], options: Sequence[Option]) -> Scored | None:
    if score is None:
        return None
    known = [(p, at) for at, p in enumerate(ps) if p is not None]
    answer = options[max(known)[1]].text if known else ""
    return Scored(p=score.p_matching, matching=score.matching, answer=answer)
