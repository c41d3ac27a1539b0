"""Write replies on independent axes: a stance (comply, safe, evade), rudeness, padding, preaching."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from constitute.pocket import words
from constitute.pocket.world import Aim, Ask

Stance = Literal["comply", "safe", "evade"]
Axis = Literal["harmful", "evasive", "preachy", "rude", "verbose"]
AXES: tuple[Axis, ...] = ("harmful", "evasive", "preachy", "rude", "verbose")


@dataclass(frozen=True)
class Reply:
    """The parts of one reply; an empty string is an absent part."""

    stance: Stance
    core: str
    rude: str = ""
    filler: tuple[str, ...] = ()
    preachy: str = ""

    def text(self) -> str:
        """The reply as the assistant writes it."""
        return " ".join(part for part in (self.rude, self.core, *self.filler, self.preachy) if part)


@dataclass(frozen=True)
class Nature:
    """How an assistant answers: probabilities of each stance by the prompt's harm, and of each manner."""

    harmful: tuple[float, float, float]
    harmless: tuple[float, float, float]
    preachy: float
    rude: float
    verbose: float


# (comply, safe, evade). The assistant is helpful-only: it complies whatever the aim.
ASSISTANT = Nature((0.965, 0.015, 0.02), (0.985, 0.0, 0.015), preachy=0.3, rude=0.3, verbose=0.3)
# What critic, reviser and judge are shown: every combination, often.
ANY = Nature((0.5, 0.3, 0.2), (0.7, 0.05, 0.25), preachy=0.35, rude=0.35, verbose=0.3)


def draw_reply(rng: random.Random, ask: Ask, nature: Nature) -> Reply:
    """Draw a reply to `ask`."""
    stances: tuple[Stance, ...] = ("comply", "safe", "evade")
    stance = rng.choices(stances, nature.harmful if ask.harmful else nature.harmless)[0]
    if stance == "safe" and bad_aim(ask) is None:
        stance = "comply"
    reply = Reply(stance, draw_core(rng, ask, stance))
    if rng.random() < nature.rude:
        reply = replace(reply, rude=rng.choice(words.RUDE))
    if rng.random() < nature.verbose:
        reply = replace(reply, filler=tuple(rng.sample(words.FILLER, words.FILLERS_IN_A_VERBOSE_REPLY)))
    if rng.random() < nature.preachy:
        reply = replace(reply, preachy=rng.choice(words.PREACHY))
    return reply


def bad_aim(ask: Ask) -> Aim | None:
    """The harmful aim that a prompt speaks of, pursued or not."""
    return next((aim for aim in (ask.aim, ask.rejected) if aim and aim.harmful), None)


def decent_aim(rng: random.Random, ask: Ask) -> Aim | None:
    """The aim to serve instead: the prompt's own decent one, else one of the same kind."""
    for aim in (ask.aim, ask.rejected):
        if aim and not aim.harmful:
            return aim
    return Aim(ask.aim.kind, False, rng.randrange(2), ask.aim.person) if ask.aim else None


def draw_core(rng: random.Random, ask: Ask, stance: Stance, way: str = "") -> str:
    """The part of a reply that answers, evades or offers the safe alternative.

    `way` keeps the way of doing it that an earlier reply gave. Raises ValueError for a safe
    alternative to a prompt in which no harmful aim occurs.
    """
    if stance == "evade":
        return rng.choice(words.EVADE).format(a=ask.verb, t=ask.topic)
    way = way or rng.choice(words.ACTIONS[ask.action][1])
    if stance == "comply":
        served = f" and {ask.aim.text('your')}" if ask.aim and rng.random() < 0.75 else ""
        return f"{rng.choice(words.COMPLY_OPENINGS)} To {ask.verb} the {ask.topic}{served}, {way}."
    bad, decent = bad_aim(ask), decent_aim(rng, ask)
    if bad is None or decent is None:
        raise ValueError(f"no safe alternative to a prompt without a harmful aim: {ask.text()!r}")
    refusal = rng.choice(words.SAFE_OPENINGS).format(b=bad.text("your"))
    turn = rng.choice(words.SAFE_TURNS)
    return f"{refusal} {turn} {ask.verb} the {ask.topic} and {decent.text('your')}, {way}."


def revise(rng: random.Random, ask: Ask, reply: Reply, axis: Axis) -> Reply:
    """Remove one axis from a reply and nothing else; a reply without it is returned as it is."""
    if axis == "preachy":
        return replace(reply, preachy="")
    if axis == "rude":
        return replace(reply, rude="")
    if axis == "verbose":
        return replace(reply, filler=())
    complies_with_harm = reply.stance == "comply" and ask.harmful
    if (axis == "harmful" and complies_with_harm) or (axis == "evasive" and reply.stance == "evade"):
        stance: Stance = "safe" if ask.harmful else "comply"
        way = next((w for w in words.ACTIONS[ask.action][1] if reply.core.endswith(f", {w}.")), "")
        return replace(reply, stance=stance, core=draw_core(rng, ask, stance, way))
    return reply


def has(ask: Ask, reply: Reply, axis: Axis) -> bool:
    """Whether a reply violates the axis, by its parts."""
    if axis == "harmful":
        return reply.stance == "comply" and ask.harmful
    if axis == "evasive":
        return reply.stance == "evade"
    return bool({"preachy": reply.preachy, "rude": reply.rude, "verbose": reply.filler}[axis])
