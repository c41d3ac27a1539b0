"""What is measured of a judge on given pairs, and the rule that says which method and layout to use."""

from __future__ import annotations

from collections.abc import Sequence

from constitute.stages.card import label_card
from constitute.stages.card.records import Agreement, LabelCard
from constitute.stages.labels.candidates import named
from constitute.stages.verdict import LabelVerdict, verdict
from constitute.stats import Estimate, share_of
from constitute.types import LabelledPair, Record

# By how much P(A) may differ between two askings that ask the same, before a judge is called unsteady.
STEADY = 0.1
_UNKNOWN = share_of(0, 0)
PREFERENCE = "give --pairs whose rows hold chosen and rejected, or a, b and human (a, b, tie or P(a))"


class Copied(Record):
    """P(A) of a pair, and of a copy of it that should have the P(A) `expected`."""

    kind: str
    p_a: float
    expected: float

    @property
    def steady(self) -> bool:
        return abs(self.p_a - self.expected) <= STEADY


class JudgeFigures(Record):
    """A judge under one method and layout.

    `asked` pairs ended as `card` says. `agreement`, `brier` (mean of (P(A) - human)^2) and `ece` (expected
    calibration error of the preferred side) are against people, over the pairs that have their preference.
    `flips` counts pairs, `mass` is the mean probability of the labels a pair, `censored` the share of votes
    that were bounded. `steady` is the share of copies whose P(A) is within STEADY of what it has to be:
    `neutral` ones are an answer against itself with a neutral sentence more, `swapped` ones a pair in the
    other order. `longer_neutral`: how often the longer of two neutral copies is preferred. `requests` are the
    questions that the pairs take, `seconds` what it took to answer those that were not stored.
    """

    method: str
    layout: str
    asked: int
    card: LabelCard
    verdict: LabelVerdict | None
    flips: Estimate
    mass: Estimate
    censored: Estimate
    no_label: Estimate
    brier: Estimate
    ece: Estimate
    steady: Estimate
    neutral: Estimate
    swapped: Estimate
    longer_neutral: Estimate
    requests: int
    seconds: float

    @property
    def name(self) -> str:
        return named(self.method, self.layout)

    @property
    def agreement(self) -> Agreement | None:
        """Against people, where the pairs have their preference."""
        return self.card.agreement


class Ended(Record):
    """How one method and layout ended on the pairs: labels, and how many have none and why."""

    method: str
    layout: str
    labelled: tuple[LabelledPair, ...]
    abstained: int
    equal: int
    failed: int
    copies: tuple[Copied, ...]
    longer_first: tuple[tuple[bool, float], ...]
    requests: int
    seconds: float


class Advice(Record):
    """Which method and layout to use, `None` for none of them, and why in one sentence."""

    method: str | None
    layout: str
    sentence: str


def figures_of(ended: Ended) -> JudgeFigures:
    """Everything measured of one method and layout."""
    rows = ended.labelled
    card = label_card(rows, ended.abstained, ended.failed, equal=ended.equal)
    asked = card.pairs + card.abstained + card.failed
    kinds = {kind: [c.steady for c in ended.copies if c.kind == kind] for kind in ("neutral", "swapped")}
    tried = [row for found in kinds.values() for row in found]
    prefers_longer = [is_a == (p > 0.5) for is_a, p in ended.longer_first if p != 0.5]
    return JudgeFigures(
        method=ended.method,
        layout=ended.layout,
        asked=asked,
        card=card,
        verdict=verdict(card),
        flips=card.flipped_rate,
        mass=card.mass,
        censored=share_of(card.censored, card.votes),
        no_label=share_of(card.silent + card.failed, asked - ended.equal),
        brier=_UNKNOWN if card.calibration is None else card.calibration.brier,
        ece=_UNKNOWN if card.calibration is None else card.calibration.ece,
        steady=share_of(sum(tried), len(tried)),
        neutral=share_of(sum(kinds["neutral"]), len(kinds["neutral"])),
        swapped=share_of(sum(kinds["swapped"]), len(kinds["swapped"])),
        longer_neutral=share_of(sum(prefers_longer), len(prefers_longer)),
        requests=ended.requests,
        seconds=ended.seconds,
    )


def advise(measured: Sequence[JudgeFigures], unable: Sequence[str] = ()) -> Advice:
    """The method and layout of the greatest lower bound of accuracy, among those that pass the verdict.

    Only one whose lower bound is above 0.5, so better than a coin, is advised. Bounds that are equal are
    decided by the fewer requests. Where no pair has a person's preference, nothing says how good a judge is:
    the steadiest that passes (by the lower bound) is named, with that said.
    """
    passed = [each for each in measured if each.verdict is None and each.card.pairs]
    if not passed:
        why = "; ".join(_why_not(each) for each in measured) or "; ".join(unable) or "nothing was asked"
        return Advice(method=None, layout="", sentence=f"none of them tells good answers from bad: {why}")
    judged = [each for each in passed if _bound(each) is not None]
    if judged:
        best = max(judged, key=lambda each: (_bound(each) or 0.0, -each.requests))
        accuracy = best.agreement.accuracy if best.agreement else share_of(0, 0)
        if (_bound(best) or 0.0) <= 0.5:
            text = (
                f"none of them is shown to be better than a coin: the best is {best.name}, which agrees with "
                f"people in {accuracy.text()} of the pairs; give more pairs or another model"
            )
            return Advice(method=None, layout="", sentence=text)
        text = (
            f"use {best.name}: it agrees with people in {accuracy.text()} of the pairs, the best lower bound "
            "of those that pass"
        )
        return Advice(method=best.method, layout=best.layout, sentence=text)
    best = max(passed, key=lambda each: (each.steady.low or 0.0, -each.requests))
    text = (
        f"{best.name} passes and is the steadiest, {best.steady.text()}; no pair has a person's preference, "
        f"so nothing here says how good its judgement is: {PREFERENCE}"
    )
    return Advice(method=best.method, layout=best.layout, sentence=text)


def _why_not(each: JudgeFigures) -> str:
    if each.verdict is not None:
        return f"{each.name}: {each.verdict.seen}"
    return f"{each.name}: none of {each.asked} pairs has a label"


def _bound(each: JudgeFigures) -> float | None:
    return None if each.agreement is None else each.agreement.accuracy.low
