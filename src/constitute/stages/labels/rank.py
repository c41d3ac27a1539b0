"""Choose the best and the worst of a prompt's samples by what each answer is worth by itself.

n answers take n questions a principle, where a knock-out of comparisons takes n - 1 for the best alone, each
in both orders, and leaves the worst unknown. The questions are those of the label method `label.rank`, so a
pair that is labelled by the same method takes no more.
"""

from __future__ import annotations

import math

from constitute.config import LabelConfig
from constitute.errors import UsageError
from constitute.stages.base import Sample
from constitute.stages.labels import LABEL_METHODS, label_method
from constitute.stages.labels.adaptive import asked_first, voters
from constitute.stages.labels.base import Worth, together
from constitute.stages.labels.pairs import Candidates, pair_of_samples
from constitute.types import Comparison, Constitution


async def best_and_worst(
    row: Candidates, sample: Sample, cfg: LabelConfig, constitution: Constitution
) -> Comparison:
    """The best and the worst answer as a pair, the earlier sample as A.

    Of answers worth the same, the earlier is the best and the later the worst: the label has to tell. Raises
    as the label method does where it says nothing of an answer.
    """
    principles = asked_first(row.id, cfg, voters(row.id, cfg, constitution))
    worth = ranking(cfg.rank)
    found = await together(
        [
            worth(row.prompt, each.response, principle, sample, cfg)
            for each in row.responses
            for principle, _ in principles
        ]
    )
    total = math.fsum(weight for _, weight in principles)
    values = [
        math.fsum(weight * value for (_, weight), value in zip(principles, part, strict=True)) / total
        for part in zip(*[iter(found)] * len(principles), strict=True)
    ]
    best = values.index(max(values))
    worst = len(values) - 1 - values[::-1].index(min(values))
    pair = pair_of_samples(*(row.responses[at] for at in sorted((best, worst))))
    return pair.model_copy(update={"id": row.id})


def ranking(name: str) -> Worth:
    """How the label method of that name says what one answer is worth; `UsageError` where it cannot."""
    worth = label_method(name).worth
    if worth is None:
        able = [each for each in LABEL_METHODS if label_method(each).worth is not None]
        raise UsageError(
            f"label.rank: {name} judges no answer by itself; set label.rank to one of {', '.join(able)}"
        )
    return worth
