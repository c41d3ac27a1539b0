"""Whether labels say anything of the answers: the verdict that stops what would be trained on them."""

from __future__ import annotations

from typing import Literal

from constitute.stages.card import NOISE, THIN_MASS, LabelCard
from constitute.stats import Estimate, share_of
from constitute.types import Record

# The lower end of the 95 % interval of a share of pairs, above which labels say nothing.
ORDER_LIMIT = 0.8
ALIKE_LIMIT = 0.8
# A judge that grades each answer may well find nothing in most pairs, and still say something of the others.
NEARLY_ALL = 0.98
NO_MASS_LIMIT = 0.5
# A median P(A) outside of these is a sure judge, whose labels may well be alike.
_UNSURE = (0.05, 0.95)
REMEDY = (
    "give another --judge or --set label.method=..., and compare them on pairs that people judged with "
    "`constitute judge`"
)


class LabelVerdict(Record):
    """Why labels say nothing: what was `seen`, in what share of the pairs; `sentence` adds what to do."""

    kind: Literal["order", "mass", "constant"]
    share: Estimate
    seen: str
    sentence: str


def verdict(card: LabelCard) -> LabelVerdict | None:
    """Why these labels say nothing of the answers; None where that is not shown.

    It is shown where the lower end of a 95 % Wilson interval, counted by pairs, is above a limit:

    - `order`: the two orders prefer different answers in more than 80 % of the pairs. A judge that sees the
      order alone flips all of them. Healthy: the embedded model flips 16 % of the pairs of which one answer
      breaks the principle, and 51 % of all, with those that are alike. A judge that leans to the first place
      and still says something flipped 75 % (Claude-v1 in arXiv 2306.05685, table 2).
    - `mass`: more than 50 % of the pairs have no label although their answers differ, or one read from a P(A)
      + P(B) under 0.2. A model that answers something else gives them all; healthy: 0 %, with a mean of 0.9
      and more. SmolLM2-135M: 0.17 on average.
    - `constant`: 98 % of the pairs that were seen, and more than 80 % of all, have the same P(A) up to 0.01,
      between 0.05 and 0.95. A judge that reads nothing gives them all; healthy: 3 % (the embedded model).

    So 80 % takes 16 pairs of 16, or 29 of 30; 50 % takes 4 of 4. Five pairs that all flip give no verdict:
    their interval begins at 57 %.
    """
    found = (_order(card), _mass(card), _constant(card))
    return next((each for each in found if each is not None), None)


def verdict_lines(card: LabelCard) -> list[str]:
    """The verdict's sentence, or nothing, for a list of lines."""
    found = verdict(card)
    return [] if found is None else [found.sentence]


def _order(card: LabelCard) -> LabelVerdict | None:
    share = share_of(card.flipped, card.ordered_pairs)
    first = "" if card.p_first is None else f", and the answer shown first has {card.p_first:.2f} on average"
    return _above(
        "order",
        share,
        ORDER_LIMIT,
        f"the two orders of the answers give opposite labels in {_text(share)} of the pairs{first}",
    )


def _mass(card: LabelCard) -> LabelVerdict | None:
    asked = card.pairs + card.silent
    share = share_of(card.silent + card.thin, asked)
    mean = "" if card.mass is None else f"; of the others it is {card.mass:.2f} on average"
    return _above(
        "mass",
        share,
        NO_MASS_LIMIT,
        f"the judge gives no label, or one of less than {THIN_MASS:g} probability, in {_text(share)} of the "
        f"pairs ({card.silent} without a label{mean})",
    )


def _constant(card: LabelCard) -> LabelVerdict | None:
    if card.p_median is None or not _UNSURE[0] <= card.p_median <= _UNSURE[1]:
        return None
    if card.alike < NEARLY_ALL * card.pairs:
        return None
    share = share_of(card.alike, card.pairs)
    return _above(
        "constant",
        share,
        ALIKE_LIMIT,
        f"P(A) is {card.p_median:.2f}, up to {NOISE:g}, in {_text(share)} of the pairs",
    )


def _above(
    kind: Literal["order", "mass", "constant"], share: Estimate, limit: float, seen: str
) -> LabelVerdict | None:
    if share.low is None or share.low <= limit:
        return None
    sentence = f"these labels say nothing of the answers: {seen}; {REMEDY}"
    return LabelVerdict(kind=kind, share=share, seen=seen, sentence=sentence)


def _text(share: Estimate) -> str:
    """Such as `100.0 % (94.2 to 100.0, n = 62)`."""
    value, low, high = (100 * (x or 0.0) for x in (share.value, share.low, share.high))
    return f"{value:.1f} % ({low:.1f} to {high:.1f}, n = {share.n})"
