"""The label card in words, a figure a line: the same on a terminal, in a data card and on a page."""

from __future__ import annotations

from collections.abc import Iterator

from constitute.stages.card.records import (
    Boilerplate,
    Calibration,
    LabelCard,
    Lengths,
    PrincipleAgreement,
    Writers,
)
from constitute.stages.card.texts import OPENING
from constitute.stats import Estimate, share_of
from constitute.types import Record


class CardLine(Record):
    """A figure, what it is called, and what else a reader has to know of it.

    `said` is text of a model, a file or a constitution, to be shown as such; the rest is ours.
    """

    name: str
    figure: Estimate | None = None
    note: str = ""
    said: str = ""

    @property
    def text(self) -> str:
        """Such as `0.812 (0.780 to 0.844, n = 120); 0.5 without order bias`."""
        figure = "" if self.figure is None else self.figure.text()
        return "; ".join(part for part in (figure, self.note, self.said) if part)


def card_lines(card: LabelCard) -> list[CardLine]:
    """Every figure of the card that was measured, and what was not and why."""
    return list(_lines(card))


def _lines(card: LabelCard) -> Iterator[CardLine]:
    without = card.abstained + card.failed
    ended = f"{card.pairs} labelled, {card.abstained} abstained, {card.failed} failed"
    yield CardLine(name="pairs", note=ended)
    yield CardLine(name="no label", figure=share_of(without, card.pairs + without))
    for each in card.decided:
        yield CardLine(name="labels made", figure=each.share, said=f"by {each.by}")
    if (first := card.first_asked) is not None:
        asked = f"{first.votes} of {first.voters} votes asked"
        yield CardLine(name="settled by the principles asked first", figure=first.settled, note=asked)
    if card.as_made is not None:
        yield CardLine(name="on the side of how pairs were made", figure=card.as_made)
    yield CardLine(name="P(A), mean", figure=card.p_a)
    yield CardLine(name="|2 P(A) - 1|, mean", figure=card.margin)
    yield CardLine(name="entropy of P(A), bits, mean", figure=card.entropy)
    yield from _order(card)
    if card.mass.n:
        yield CardLine(name="P(A) + P(B)", figure=card.mass, note=f"{card.least_mass:.3f} least")
    if card.censored:
        yield CardLine(name="votes bounded, not measured", figure=share_of(card.censored, card.votes))
    yield CardLine(name="the longer answer wins", figure=card.longer)
    if card.longer_human.n:
        yield CardLine(name="the longer answer wins for people", figure=card.longer_human)
    yield from _lengths(card.lengths)
    yield from _alike(card.boilerplate)
    yield from _principles(card.principles)
    yield from _people(card)
    yield from _writers(card.writers)


def _order(card: LabelCard) -> Iterator[CardLine]:
    if not card.ordered:
        yield CardLine(name="order flips", note="none possible: this label method shows no order")
        return
    yield CardLine(name="order flips, of votes", figure=card.flip_rate)
    yield CardLine(name="order flips, of pairs", figure=card.flipped_rate)
    yield CardLine(name="P(the one shown first)", figure=card.p_first, note="0.5 without order bias")


def _lengths(found: Lengths) -> Iterator[CardLine]:
    slope = "P(the longer) by doubling of length"
    if found.slope.value is not None:
        yield CardLine(name=slope, figure=found.slope)
    if found.slope_human.value is not None:
        yield CardLine(name=f"{slope}, for people", figure=found.slope_human)
    if found.chosen_words.n:
        yield CardLine(name="words of the preferred answer, mean", figure=found.chosen_words)
        yield CardLine(name="words of the other answer, mean", figure=found.rejected_words)


def _alike(found: Boilerplate) -> Iterator[CardLine]:
    if not found.opens_so.n:
        return
    yield CardLine(
        name=f"preferred answers with the commonest first {OPENING} words",
        figure=found.opens_so,
        said=found.opening,
    )
    yield CardLine(name="preferred answers with a phrase of refusals", figure=found.refusals)
    yield CardLine(name="other answers with a phrase of refusals", figure=found.refusals_rejected)


def _principles(found: PrincipleAgreement) -> Iterator[CardLine]:
    name = "principles agree on a pair"
    if not found.share.n:
        if found.voting:
            votes = "one principle votes" if found.voting == 1 else "each pair has the vote of one principle"
            yield CardLine(name=name, note=f"not measured: {votes}")
        return
    yield CardLine(name=name, figure=found.share)
    yield CardLine(name="Cohen's kappa between principles, mean", figure=found.kappa)
    if found.least is not None and found.voting > 2:
        least = found.least
        two = f"{least.first} and {least.second} agree least"
        yield CardLine(name=two, figure=least.share, note=f"kappa {least.kappa.text()}")


def _people(card: LabelCard) -> Iterator[CardLine]:
    found = card.agreement
    if found is None:
        return
    ties = f"left out: {found.human_ties} undecided by people, {found.label_ties} by the labels"
    yield CardLine(name="agrees with people", figure=found.accuracy, note=ties)
    yield CardLine(name="Cohen's kappa with people", figure=found.kappa)
    if card.calibration is not None:
        yield from _calibration(card.calibration)


def _calibration(found: Calibration) -> Iterator[CardLine]:
    yield CardLine(name="Brier score against people", figure=found.brier, note="0.25 for P(A) = 0.5 always")
    bins = (f"{each.confidence:.2f}: {each.right.value:.2f} (n = {each.right.n})" for each in found.bins)
    yield CardLine(
        name="calibration error against people",
        figure=found.ece,
        note=f"P of the preferred answer, and how often it is people's: {', '.join(bins)}",
    )


def _writers(found: Writers) -> Iterator[CardLine]:
    if not found.by:
        return
    by = ", ".join(f"{count} by {name}" for name, count in found.by.items())
    judge = f"judged by {found.judge}" if found.judge else "judged by a model without a name"
    related = share_of(found.kin, found.answers)
    yield CardLine(name="answers by the judge or its family", figure=related, said=f"{by}; {judge}")
    if found.own.n:
        yield CardLine(name="the judge prefers its family's answer", figure=found.own)
    if found.own_human.n:
        yield CardLine(name="people prefer its family's answer", figure=found.own_human)
