"""Whether labels say anything of the answers: the verdict that stops training on them, and warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from constitute.config import GatesConfig
from constitute.stages.card import NOISE, THIN_MASS
from constitute.stages.card.records import LabelCard, Writers
from constitute.stages.card.writers import kin
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
    return next((_said(sign) for sign in _signs(card) if _is_shown(sign)), None)


def label_warnings(card: LabelCard) -> list[str]:
    """What a person has to know of labels that no verdict stops, a sentence each.

    A share is past its limit but its interval is not, as few pairs were labelled; or the agreement with
    people is not shown to be better than the 0.5 of chance.
    """
    past = [] if verdict(card) else [sign for sign in _signs(card) if (sign.share.value or 0.0) > sign.limit]
    few = [
        f"{sign.counted}; too few pairs for a verdict: `constitute judge`, on pairs that people judged, "
        "examines this judge"
        # As in a verdict, the first: labels that all flip are all alike too.
        for sign in past[:1]
    ]
    return [*few, *_against_people(card), *_of_its_own(card.writers)]


def unmet(card: LabelCard, gates: GatesConfig) -> list[str]:
    """A sentence for each gate that labels do not pass: the figure, its interval, the limit, and what to do.

    The figure itself is held against the limit, its interval says how sure it is. What was not measured does
    not pass, but for the order of a method that shows none.
    """
    return [*_agrees_too_little(card, gates.min_agreement), *_flips_too_often(card, gates.max_order_flip)]


def stopped_by(card: LabelCard, gates: GatesConfig) -> str:
    """Why nothing should be trained on these labels, by their verdict and gates; empty where they pass."""
    found = verdict(card)
    return joined([*([] if found is None else [found.sentence]), *unmet(card, gates)])


def joined(sentences: Sequence[str]) -> str:
    """Several sentences as one that says the remedy once, at its end."""
    parts = [sentence.partition(f"; {REMEDY}") for sentence in sentences]
    remedy = next((remedy for _, remedy, _ in parts if remedy), "")
    return "; ".join(seen for seen, _, _ in parts) + remedy + "".join(more for _, _, more in parts)


def _agrees_too_little(card: LabelCard, least: float | None) -> Iterator[str]:
    if least is None:
        return
    accuracy = None if card.agreement is None else card.agreement.accuracy
    if accuracy is None or accuracy.value is None:
        yield (
            f"the labels agree with people in an unknown share of the pairs, and gates.min_agreement wants "
            f"{100 * least:g} %: no pair is decided both by people and by the judge; give --pairs whose rows "
            "hold chosen and rejected or human, `constitute review` pairs, or leave --min-agreement out"
        )
    elif accuracy.value < least:
        yield (
            f"the labels agree with people in {_text(accuracy)} of the pairs, and gates.min_agreement wants "
            f"{100 * least:g} %; {REMEDY}, or lower --min-agreement"
        )


def _flips_too_often(card: LabelCard, most: float | None) -> Iterator[str]:
    if most is None or (card.votes and not card.ordered):
        return
    share = card.flipped_rate
    if share.value is None:
        yield (
            f"no pair has a label, so nothing is known of order flips, of which gates.max_order_flip allows "
            f"{100 * most:g} %; label pairs, or leave --max-order-flip out"
        )
    elif share.value > most:
        yield (
            f"the labels change with the order of the answers in {_text(share)} of the pairs, and "
            f"gates.max_order_flip allows {100 * most:g} %; {REMEDY}, or raise --max-order-flip"
        )


def _of_its_own(found: Writers) -> Iterator[str]:
    """Whether the judge wrote what it judges; and whether it is seen to prefer that."""
    if not found.kin:
        return
    names = ", ".join(name for name in found.by if kin(found.judge, name))
    who = "wrote" if names == found.judge else f"is of the family of {names}, which wrote"
    seen = ""
    if found.own.n:
        seen = f", and it prefers them in {_text(found.own)} of the pairs where the other answer is not"
        if found.own_human.n:
            seen += f", people in {_text(found.own_human)}"
    yield (
        f"the judge {found.judge} {who} {found.kin} of the {found.answers} answers{seen}; judges favour "
        "answers of their own kind: give a --judge of another family, or examine this one with `constitute "
        "judge` on pairs that people judged"
    )


def _against_people(card: LabelCard) -> Iterator[str]:
    accuracy = None if card.agreement is None else card.agreement.accuracy
    if accuracy is None or accuracy.low is None or accuracy.high is None or accuracy.low > 0.5:
        return
    if accuracy.high < 0.5:
        yield f"the labels contradict people: they agree in {accuracy.text()} of the pairs; {REMEDY}"
        return
    yield (
        f"the labels are not shown to be better than chance: they agree with people in {accuracy.text()} of "
        f"the pairs, and the interval holds 0.5; label more pairs that people judged, or {REMEDY}"
    )


class _Sign(NamedTuple):
    """A share of the pairs and the limit above which its lower end gives a verdict, in words of two kinds."""

    kind: Literal["order", "mass", "constant"]
    share: Estimate
    limit: float
    seen: str
    counted: str


def _signs(card: LabelCard) -> Iterator[_Sign]:
    yield _order(card)
    yield _mass(card)
    yield from _constant(card)


def _order(card: LabelCard) -> _Sign:
    share, shown = card.flipped_rate, card.p_first.value
    first = "" if shown is None else f", and the answer shown first has {shown:.2f} on average"
    return _Sign(
        "order",
        share,
        ORDER_LIMIT,
        f"the two orders of the answers give opposite labels in {_text(share)} of the pairs{first}",
        f"{card.flipped} of {card.ordered_pairs} pairs flip with the order",
    )


def _mass(card: LabelCard) -> _Sign:
    asked = card.pairs + card.silent
    share = share_of(card.silent + card.thin, asked)
    mean = "" if card.mass.value is None else f"; of the others it is {card.mass.value:.2f} on average"
    return _Sign(
        "mass",
        share,
        NO_MASS_LIMIT,
        f"the judge gives no label, or one of less than {THIN_MASS:g} probability, in {_text(share)} of the "
        f"pairs ({card.silent} without a label{mean})",
        f"{card.silent + card.thin} of {asked} pairs have no label, or one of less than {THIN_MASS:g} "
        "probability",
    )


def _constant(card: LabelCard) -> Iterator[_Sign]:
    if card.p_median is None or not _UNSURE[0] <= card.p_median <= _UNSURE[1]:
        return
    # One pair alone is like itself.
    if card.pairs < 2 or card.alike < NEARLY_ALL * card.pairs:
        return
    share = share_of(card.alike, card.pairs)
    alike = f"P(A) is {card.p_median:.2f}, up to {NOISE:g}, in"
    yield _Sign(
        "constant",
        share,
        ALIKE_LIMIT,
        f"{alike} {_text(share)} of the pairs",
        f"{alike} {card.alike} of {card.pairs} pairs",
    )


def _is_shown(sign: _Sign) -> bool:
    return sign.share.low is not None and sign.share.low > sign.limit


def _said(sign: _Sign) -> LabelVerdict:
    sentence = f"these labels say nothing of the answers: {sign.seen}; {REMEDY}"
    return LabelVerdict(kind=sign.kind, share=sign.share, seen=sign.seen, sentence=sentence)


def _text(share: Estimate) -> str:
    """Such as `100.0 % (94.2 to 100.0, n = 62)`."""
    value, low, high = (100 * (x or 0.0) for x in (share.value, share.low, share.high))
    return f"{value:.1f} % ({low:.1f} to {high:.1f}, n = {share.n})"
