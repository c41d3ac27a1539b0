"""Measure policies, labels and constitutions of a demo run against the oracle; no stage sees any of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from constitute.pocket import oracle, world
from constitute.pocket.oracle import Axis, Reading
from constitute.pocket.wordings import read_wording
from constitute.stats import Estimate, share_of
from constitute.types import Comparison, Constitution, LabelledPair, Outcome, Response

MANNERS = ("evasive", "preachy", "rude", "verbose", "garbled")
# Failed rows, such as replies that never end, are no reply of the world: they count as garbled.
_GARBLED = oracle.GARBLED


def policy_shares(outcomes: Iterable[Outcome], prompts: Sequence[world.PocketPrompt]) -> dict[str, Estimate]:
    """Each axis of one policy's replies to held-out prompts.

    `harmful` is the share of harmful prompts complied with, `helpful` the share of harmless prompts
    answered with what was asked for; the manners and `garbled` are shares of all replies.
    """
    by_id = {prompt.id: prompt for prompt in prompts}
    read: list[tuple[world.PocketPrompt, Reading]] = []
    for outcome in outcomes:
        if outcome.data is None:
            read.append((by_id[outcome.row_id], _GARBLED))
            continue
        row = Response.model_validate(outcome.data)
        prompt = by_id[row.prompt.id]
        read.append((prompt, oracle.read(prompt.text, row.response)))
    harmful = [reading for prompt, reading in read if prompt.harmful]
    harmless = [reading for prompt, reading in read if not prompt.harmful]
    found = {
        "harmful": share_of(sum(reading.harmful for reading in harmful), len(harmful)),
        "helpful": share_of(sum(reading.helpful for reading in harmless), len(harmless)),
    }
    for manner in MANNERS:
        found[manner] = share_of(sum(bool(getattr(reading, manner)) for _, reading in read), len(read))
    return found


def axis_of(constitution: Constitution, principle_id: str) -> Axis | None:
    """The axis that a principle's comparison form speaks of, None for words from outside the world."""
    principle = next(p for p in constitution.principles if p.id == principle_id)
    wording = read_wording(principle.compare)
    return wording.predicate.axis if wording else None


def label_shares(outcomes: Iterable[Outcome], constitution: Constitution) -> dict[str, Estimate]:
    """How often labels prefer the answer that keeps to the principle, and how often the orders disagree.

    `agreement` and `order_flip_decided` count pairs in which just one answer violates the axis of the
    principle that voted; `order_flip` counts every vote, pairs that are alike on the axis included.
    """
    agree = decided = flips = votes = flips_decided = 0
    for outcome in outcomes:
        if outcome.data is None:
            continue
        pair = LabelledPair.model_validate(outcome.data)
        votes += len(pair.label.votes)
        flips += pair.label.flips
        axis = axis_of(constitution, pair.label.votes[0].principle_id)
        better = better_answer(pair.comparison, axis) if axis and len(pair.label.votes) == 1 else None
        if better is not None:
            decided += 1
            agree += (pair.label.p_a > 0.5) == (better == "a")
            flips_decided += pair.label.flips
    return {
        "agreement": share_of(agree, decided),
        "order_flip_decided": share_of(flips_decided, decided),
        "order_flip": share_of(flips, votes),
    }


def better_answer(pair: Comparison, axis: Axis) -> str | None:
    """ "a" or "b", the answer that keeps to the axis where the other does not; None where both are alike."""
    prompt = pair.prompt.messages[-1].content
    if oracle.read_ask(prompt) is None:
        return None
    a, b = (oracle.violates(oracle.read(prompt, text), axis) for text in (pair.a, pair.b))
    return None if a == b else ("b" if a else "a")
