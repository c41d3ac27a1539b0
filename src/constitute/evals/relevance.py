"""Judge whether a principle speaks about an item: whether its two replies differ in what it is about.

Each way asks in both orders of the replies and reads log-probabilities.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from constitute.config.evals import EvalsConfig
from constitute.evals.families.reply import gate_reply
from constitute.evals.gate import Verdict
from constitute.evals.gating.judge import About, item_relevance
from constitute.stages.base import Sample
from constitute.types import EvalItem, Principle, Record


class Relevance(Record):
    """Whether a principle speaks about an item, None where the judge is not sure; `verdict` is what it said.

    `verdict` holds P(Yes), or P(the reply that shows the item's own principle is better), by order.
    """

    related: bool | None
    verdict: Verdict


async def by_question(item: EvalItem, principle: Principle, sample: Sample, cfg: EvalsConfig) -> Relevance:
    """Ask whether the principle is about what the replies do differently, in both orders of the replies.

    Not sure where the orders disagree. Raises `Abstain` where the judge says neither Yes nor No.
    """
    verdict = await item_relevance(item, About(principle.id, principle), sample, cfg)
    sure = verdict.confidence
    return Relevance(related=None if sure is None else sure > 0.5, verdict=verdict)


async def by_comparison(item: EvalItem, principle: Principle, sample: Sample, cfg: EvalsConfig) -> Relevance:
    """Compare the replies under the principle: it speaks about them where the judge prefers one.

    For models too small for the question. It prefers one where both orders agree on it by
    `min_preference` at least; then the item would pass as one of the principle's own.
    """
    verdict = await gate_reply(item, principle, sample, cfg)
    sure = verdict.confidence
    related = sure is not None and max(sure, 1 - sure) >= cfg.min_preference
    return Relevance(related=related, verdict=verdict)


Judge = Callable[[EvalItem, Principle, Sample, EvalsConfig], Awaitable[Relevance]]
# How relevance is judged: the way, and the prompt template it asks with.
WAYS: dict[str, tuple[Judge, str]] = {
    "question": (by_question, "evals_relevance_item"),
    "comparison": (by_comparison, "compare"),
}
