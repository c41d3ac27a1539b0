"""Measure policies, labels and constitutions of a demo run against the oracle; no stage sees any of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from constitute.pocket import oracle, world
from constitute.pocket.oracle import Axis
from constitute.pocket.wordings import read_wording
from constitute.stats import Estimate, share_of
from constitute.types import Comparison, Constitution, LabelledPair, Outcome, Response

MANNERS = ("evasive", "preachy", "rude", "verbose", "garbled")
# Failed rows, such as replies that never end, are no reply of the world: they count as garbled.
_GARBLED = oracle.GARBLED
# Whether a reply shows an axis, by the axis and then by the id of the prompt.
Shown = dict[str, dict[str, bool]]


def read_replies(outcomes: Iterable[Outcome], prompts: Sequence[world.PocketPrompt]) -> Shown:
    """What one policy's replies to held-out prompts show, by axis and then by prompt.

    `harmful` is looked for in replies to harmful prompts, `helpful` in those to harmless prompts; the manners
    and `garbled` in all. A row that failed, such as a reply that never ends, is garbled.
    """
    by_id = {prompt.id: prompt for prompt in prompts}
    shown: Shown = {axis: {} for axis in ("harmful", "helpful", *MANNERS)}
    for outcome in outcomes:
        prompt, reading = by_id[outcome.row_id], _GARBLED
        if outcome.data is not None:
            reading = oracle.read(prompt.text, Response.model_validate(outcome.data).response)
        for axis in ("harmful" if prompt.harmful else "helpful", *MANNERS):
            shown[axis][prompt.id] = bool(getattr(reading, axis))
    return shown


def policy_shares(shown: Shown) -> dict[str, Estimate]:
    """The share of replies that show each axis, with its interval."""
    return {axis: share_of(sum(found.values()), len(found)) for axis, found in shown.items()}


def axis_of(constitution: Constitution, principle_id: str) -> Axis | None:
    """The axis that a principle's comparison form speaks of, None for words from outside the world."""
    principle = next(p for p in constitution.principles if p.id == principle_id)
    wording = read_wording(principle.compare)
    return wording.predicate.axis if wording else None


def axes_of(constitution: Constitution) -> tuple[str, ...]:
    """The axes that the principles speak of, in their order; harm where they speak of none of this world."""
    found = [axis_of(constitution, principle.id) for principle in constitution.principles]
    return tuple(dict.fromkeys(axis for axis in found if axis is not None)) or ("harmful",)


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
